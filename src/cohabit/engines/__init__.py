"""One file or one folder per engine. An engine's library is imported inside ``load``, never at module level."""
