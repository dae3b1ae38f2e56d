"""A plan as it is written for other programs, in pieces that can be compared."""

from typing import Any

from tests.golden.digest import short

Golden = dict[str, Any]


def written_goldens(written: dict[str, Any]) -> dict[str, Golden]:
    """The parts of a plan as it is written for other programs, by kind."""
    schedule = dict(written["schedule"])
    programs = {f"training rank {rank}": short(actions) for rank, actions in schedule.pop("programs").items()}
    evaluation = written["evaluation"]["programs"]
    modules = {
        f"{module} {key}": short(value) for module, facts in written["modules"].items() for key, value in facts.items()
    }
    return {
        "programs": programs | {f"evaluation rank {rank}": short(actions) for rank, actions in evaluation.items()},
        "communicators": {each["name"]: short(each) for each in written["communicators"]}
        | {"order": short([each["name"] for each in written["communicators"]])},
        "links": {each["link"]: short(each) for each in written["links"]},
        "facts": modules
        | {key: short(written[key]) for key in ("world", "placement", "dtype", "edges", "proof", "memory_bytes")}
        | {f"schedule {key}": short(value) for key, value in schedule.items()}
        | {f"timeline {key}": short(value) for key, value in written["timeline"].items()},
    }
