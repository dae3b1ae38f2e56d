"""Writing checkpoints: into a `.partial` folder, synced to disk, sealed with a manifest, and only then renamed.

So a folder with a final name is complete even if the machine fails at any moment. An unfinished `.partial` folder is
removed when the next checkpoint is written.
"""

import json
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from torch.distributed.checkpoint.api import CheckpointException

from counterpoint.errors import RunError
from counterpoint.execute.tree import ALONE, Tree
from counterpoint.train.agree import agreed
from counterpoint.train.state.checkpoint import (
    SAYS_MANIFEST,
    STATE_FILE,
    TrainingState,
    checkpoint_folder,
    list_checkpoints,
)
from counterpoint.train.state.durable import sync, write_synced
from counterpoint.train.state.manifest import MANIFEST_FILE, Manifest, WholeFile
from counterpoint.train.state.storage import METADATA_FILE, DigestingWriter, sentence
from counterpoint.train.state.stored_block import Tensors
from counterpoint.train.state.together import save_together

_PARTIAL = ".partial"


class CheckpointWriter:
    """Writes checkpoints of a run, at most one at a time, optionally in the background.

    Without a tree this process is the only rank. `damaged` are steps whose checkpoints are damaged and replaceable.
    All ranks call `published` with the step of each checkpoint once it has its name.
    """

    def __init__(
        self,
        run: Path,
        tree: Tree | None,
        is_leader: bool,
        keep_last: int,
        asynchronous: bool,
        published: Callable[[int], None] = lambda _step: None,
    ) -> None:
        self._run, self._tree, self._leader = run, tree, is_leader
        self._keep_last, self._asynchronous, self._tell = keep_last, asynchronous, published
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._running: tuple[int, Future[None]] | None = None
        self._published: list[int] = []
        self.damaged: frozenset[int] = frozenset()

    def write(self, tensors: Tensors, state: TrainingState) -> None:
        """Save on all ranks together; returns as soon as the tensors may change."""
        self.finish()
        staged = {key: block.staged() for key, block in tensors.items()}
        self._running = (state.data_step, self._executor.submit(self._write, staged, state))
        if not self._asynchronous:
            self.finish()

    def finish(self) -> None:
        """Wait for the checkpoint that is being written; raises its error if it failed."""
        if self._running is not None:
            (step, running), self._running = self._running, None
            running.result()
            self._published.append(step)

    def poll(self) -> None:
        """Raise the error of the checkpoint that is being written, if it has failed; does not wait."""
        if self._running is not None and self._running[1].done():
            self.finish()

    def take_published(self) -> list[int]:
        """The steps of the checkpoints that were completed since the last call."""
        published, self._published = self._published, []
        return published

    def _write(self, tensors: Tensors, state: TrainingState) -> None:
        final = checkpoint_folder(self._run, state.data_step)
        partial = _partial(final)
        try:
            agreed(self._tree, lambda: self._begin(partial))
            storage = DigestingWriter(partial, state.data_step)
            self._write_blocks(tensors, storage)
            agreed(self._tree, lambda: self._publish(storage, state, partial, final))
        except (CheckpointException, RunError) as error:
            if self._leader:
                # No rank writes to it any more, and on a full disk its space is needed.
                shutil.rmtree(partial, ignore_errors=True)
            raise RunError(
                f"{final}: the checkpoint could not be written ({_reason(error)}), earlier ones are as they were; "
                "make room or correct the rights, and start again, which goes on from the newest"
            ) from error
        self._tell(state.data_step)
        agreed(self._tree, lambda: self._remove_superfluous(state.data_step))

    def _begin(self, partial: Path) -> None:
        """Create the folder, replacing an unfinished one of an earlier start."""
        if self._leader:
            for left in partial.parent.glob(f"step-*{_PARTIAL}"):
                shutil.rmtree(left)
            partial.mkdir(parents=True)

    def _write_blocks(self, tensors: Tensors, storage: DigestingWriter) -> None:
        save_together(tensors, storage, ALONE if self._tree is None else self._tree)

    def _publish(self, storage: DigestingWriter, state: TrainingState, partial: Path, final: Path) -> None:
        """Write the manifest, and rename the folder to its final name, replacing a damaged checkpoint of that name."""
        if not self._leader:
            return
        write_synced(partial / STATE_FILE, json.dumps(asdict(state) | {SAYS_MANIFEST: True}).encode())
        whole = {name: WholeFile.of((partial / name).read_bytes()) for name in (METADATA_FILE, STATE_FILE)}
        manifest = Manifest(step=state.data_step, whole=whole, blocks=storage.blocks)
        write_synced(partial / MANIFEST_FILE, manifest.sealed())
        sync(partial)
        aside = final.with_name(f"{final.name}.old{_PARTIAL}")
        if final.exists():
            final.rename(aside)
        partial.rename(final)
        sync(final.parent)
        sync(final.parent.parent)
        shutil.rmtree(aside, ignore_errors=True)

    def _remove_superfluous(self, written: int) -> None:
        if not self._leader:
            return
        self.damaged -= {written}
        for step in superfluous(list_checkpoints(self._run), written, self.damaged, self._keep_last):
            remove_checkpoint(checkpoint_folder(self._run, step))


def superfluous(steps: Iterable[int], written: int, damaged: Iterable[int], keep_last: int) -> list[int]:
    """The checkpoints to remove after that of step `written`: those older than the newest `keep_last`.

    Damaged checkpoints do not count, so that they never displace one that can be resumed from. Neither do checkpoints
    of later steps, which exist if the run resumed from an older one.
    """
    lost = set(damaged) - {written}
    counted = sorted(step for step in steps if step <= written and step not in lost)
    oldest_kept = counted[-keep_last:][0]
    return sorted(step for step in steps if step < oldest_kept)


def remove_checkpoint(folder: Path) -> None:
    """Delete a checkpoint; it is renamed first, so that a folder with a final name is always complete."""
    aside = _partial(folder)
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    shutil.rmtree(aside)


def _partial(folder: Path) -> Path:
    """The name of a checkpoint that is not complete."""
    return folder.with_name(folder.name + _PARTIAL)


def _reason(error: CheckpointException | RunError) -> str:
    """The error of the first failed rank, extracted from a collection of tracebacks."""
    if isinstance(error, RunError):
        return str(error)
    rank, (cause, _trace) = min(error.failures.items())
    return f"rank {rank}: {sentence(cause)}"
