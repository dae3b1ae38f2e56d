"""Opening the recorders of a run: metrics.jsonl, those that the config lists, and the terminal."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from counterpoint.recorders import RECORDERS
from counterpoint.recorders.guarded import Background, Guarded
from counterpoint.recorders.json_lines import METRICS_FILE, JsonLines
from counterpoint.recorders.kind import Record, Recorder, RecorderSection, Recording
from counterpoint.recorders.terminal import Terminal


def open_recorders(
    sections: Sequence[RecorderSection], recording: Recording, log: Callable[[str], object]
) -> tuple[Recorder, ...]:
    """Open all recorders of a run; the terminal, the last one, and `log` report failures of the others."""
    terminal = Guarded("the terminal", partial(Terminal, recording), log)

    def say(words: str) -> None:
        log(words)
        terminal.record(Record(step=0, words=words, of_step=False))

    recording = replace(recording, say=say)
    recorders: list[Recorder] = [Guarded(METRICS_FILE, partial(JsonLines, recording), say)]
    seen: Counter[str] = Counter()
    for section in sections:
        kind = RECORDERS[section.kind]
        seen[section.kind] += 1
        name = section.kind if seen[section.kind] == 1 else f"{section.kind}-{seen[section.kind]}"
        opening = partial(kind.open, section, replace(recording, name=name))
        recorders.append(
            Background(name, opening, say, recording.patience_seconds)
            if kind.is_remote
            else Guarded(name, opening, say)
        )
    return (*recorders, terminal)
