"""Train the language model of language_only.yaml from Python, end it early, and go on on another layout.

Run it with `python examples/from_python.py` beside an installed counterpoint; it takes about a minute on two CPU cores.
Everything that it uses is typed: `mypy --strict examples/from_python.py` sees no Any.
"""

import sys
from pathlib import Path

import counterpoint

CONFIG = Path(__file__).with_name("language_only.yaml")
MOST_IDLE = 0.5


class Early(counterpoint.Callback):
    """Notes the loss of every step, and ends the run after a number of them."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.losses: dict[int, float] = {}

    def after_step(self, context: counterpoint.StepContext) -> None:
        self.losses[context.step] = context.loss
        if context.step == self.after:
            context.request_stop()

    def after_evaluation(self, context: counterpoint.EvaluationContext) -> None:
        print(f"{context.split} after step {context.step}: {context.loss:.3f}")

    def after_save(self, context: counterpoint.SaveContext) -> None:
        if context.rank == 0:
            print(f"rank {context.rank} of {context.run}: saved {context.checkpoint.name}")


def idle(config: counterpoint.Config) -> float:
    """The share of all ranks' time in which they would idle, were a forward of each stage as long as any other's."""
    plan = counterpoint.build_plan(config)
    proof = counterpoint.check_plan(plan)
    assert proof.ranks == config.world.size
    return counterpoint.simulate(plan).bubble_fraction


def main() -> None:
    """Plan, verify, train, stop, and go on."""
    config = counterpoint.load_config(CONFIG, ["run.dir=runs/from_python_script"])
    if idle(config) > MOST_IDLE:
        sys.exit("most ranks would idle; choose another layout")
    result = counterpoint.verify(config)
    print(f"equal to one process: {result.holds}, worst relative difference {result.worst.value:.1e}")
    run = counterpoint.train(config, callbacks=[Early(after=5)])
    print(f"stopped after step {run.checkpoints[-1]} of {run.config.training.steps}")
    run = counterpoint.train(config, ["modules.language.layout={ranks: [0, 1], pp: 2}"])
    last = run.metrics.steps[-1]
    print(
        f"step {last.step}: loss {last.loss:.3f}, {last.tokens_per_second:,.0f} tokens/s, {run.losses[last.step]:.3f}"
    )


if __name__ == "__main__":
    main()
