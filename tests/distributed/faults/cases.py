"""What is to be said of each fault of the script: the rank, the words, the exit code."""

from dataclasses import dataclass

SLOW_SECONDS = 40


@dataclass(frozen=True)
class Said:
    """The rank in which a fault is planted, the rank that is named in `error.json`, and a pattern of the last words.

    `rank` is None where nothing fails. Of a rank that is only known to be gone, the step is; of others, the action.
    """

    planted: int
    rank: int | None
    code: int
    words: str
    is_load: bool = False


SAID = {
    "exit": Said(1, 1, 5, r"^error: rank 1 ended with exit code 5 and left no report.*step 2: ranks? .*1.* gone"),
    "exit as if in order": Said(1, 1, 1, r"^error: rank 1, .*rank 1 is gone and left no report.*step 2"),
    "sys.exit": Said(0, 0, 3, r"^error: rank 0, step 2: vision\.0F\d: it was asked to exit with 3"),
    "killed": Said(2, 2, 1, r"^error: rank 2 ended without a report, by SIGKILL.*step 2"),
    "segmentation fault": Said(0, 0, 1, r"^error: rank 0 ended without a report, by SIGSEGV.*step 2"),
    "stopped": Said(3, 3, 4, r"^error: rank 3, .*rank 3 does not answer.*every rank but rank 3"),
    "loop in the encoder": Said(0, 0, 4, r"rank 0 made no progress in step 2: vision\.0F\d.*wait for it"),
    "loop in the language model": Said(2, 2, 4, r"rank 2 made no progress in step 2: language\.0F\d.*wait for it"),
    "loop in backward": Said(1, 1, 4, r"rank 1 made no progress in step 2: vision\.0B\d.*wait for it"),
    "loop in a read": Said(1, 1, 4, r"rank 1 made no progress in step 2: reading.*wait for it"),
    "loop in a checkpoint's write": Said(3, 3, 4, r"rank 3 made no progress in step \d: checkpoint.*wait for it"),
    "loop in the optimizer": Said(2, 2, 4, r"rank 2 made no progress in step 2: S.*wait for it"),
    "loop in a transfer": Said(1, 1, 4, r"rank 1 made no progress in step 2: vision\.0>language\.0F\d.*wait for it"),
    "skipped collective": Said(3, 3, 4, r"rank 3 is in step 2: S, past a collective in which"),
    "error in forward": Said(0, 0, 1, r"^error: rank 0, step 2: vision\.0F\d: planted"),
    "error in backward": Said(2, 2, 1, r"^error: rank 2, step 2: language\.0B\d: planted"),
    "error in a read": Said(3, 3, 1, r"^error: rank 3, step 2: reading: planted"),
    "error in the optimizer": Said(1, 1, 1, r"^error: rank 1, step 2: S: planted"),
    "error in a checkpoint's write": Said(2, 2, 1, r"rank 2.*No space left on device"),
    "out of memory": Said(2, 2, 1, r"^error: rank 2, step 2: language\.0F\d: CUDA out of memory"),
    "killed in an evaluation": Said(
        3, 3, 1, r"^error: rank 3 ended without a report, by SIGKILL.*step 2: ranks? .*3.* gone"
    ),
    "dies before it joins": Said(2, None, 7, r"^error: rank 2 ended with exit code 7 and left no report"),
    "slow load": Said(2, None, 0, "", is_load=True),
}
