"""A config to go with a generated trace: models of varied sizes and load seconds, and room for some of them."""

from random import Random

from cohabit.simulate.generator import lognormal, model_names, stratified

SMALLEST, LARGEST = 1 << 10, 16 << 10  # MiB resident; the logarithms are uniform between
WORKING = 0.1  # of what is resident
LOAD_P50, LOAD_P99 = 23.0, 52.0  # seconds


def invented_config(models: int, seed: int, *, cache: float) -> str:
    """YAML. ``cache`` is the share of all models' bytes that the budget holds, or of as many as the largest needs."""
    random = Random(f"models of {seed}")
    sizes = [round(SMALLEST * (LARGEST / SMALLEST) ** u) for u in stratified(models, random)]
    loads = [lognormal(u, LOAD_P50, LOAD_P99) for u in stratified(models, random)]
    working = [round(size * WORKING) for size in sizes]
    budget = max(round(cache * sum(sizes)), *map(sum, zip(sizes, working, strict=True)))
    lines = [
        f"# Invented by `cohabit simulate --generate --seed {seed}`: {models} models of {sum(sizes):,} MiB together.",
        f"device: {{kind: cpu, budget: {budget}MiB, keep_free: 0, compute_slots: 3}}",
        "models:",
    ]
    for name, size, extra, load in zip(model_names(models), sizes, working, loads, strict=True):
        footprint = f"{{idle: {size}MiB, inference: {size + extra}MiB, load: {size}MiB}}"
        lines.append(f"  {name}: {{engine: fake, options: {{load_seconds: {load:.2f}}}, footprint: {footprint}}}")
    return "\n".join(lines) + "\n"
