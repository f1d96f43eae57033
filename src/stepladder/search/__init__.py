"""Search along scale: base hyperparameters, tried cheaply at small scales and raced up a ladder.

    space = Space.parse(["optimizer.lr=log:1e-3..1e-1"]).of(base)
    levels = Levels.of(base, scales=(1.0, 1.5, 2.0))
    with Study.open(space, levels.costs, proposer="bohb", scheduler="hyperband") as study:
        found = run(study, base, levels, execute, budget)

Parts: `space` (what is searched), `levels` (where: points on the ladder, with known costs),
`schedulers` (how much to spend on a configuration), `proposers` (which to try next: Optuna
samplers), `study` (an Optuna study that both work in), `running` (the loop over an executor).
"""
