"""One file per engine. An engine's library is imported inside ``load``, never at module level."""
