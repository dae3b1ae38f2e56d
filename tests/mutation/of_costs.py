# ruff: noqa: E501 (a table reads best with a fault to a line)
"""Faults of what operations cost, and of how it is measured."""

from tests.mutation.mutant import Mutant

_HARDWARE, _FILE, _FILL = (f"tests/unit/costs/test_{name}.py" for name in ("hardware", "file", "fill"))
_PARTS, _WATCH, _EXCHANGES = (f"tests/unit/calibrate/test_{name}.py" for name in ("parts", "stopwatch", "exchanges"))
_HOSTS, _HOST = "tests/unit/costs/test_host.py", "tests/unit/calibrate/test_host.py"
_CLI = "tests/unit/cli/test_calibrate.py"

COSTS = [
    Mutant("costs.table:Axis.place", "value / self.values[last]", "1.0", (_HARDWARE,)),
    Mutant("costs.table:_risen", "accumulate(seconds, max)", "seconds", (_HARDWARE,)),
    Mutant("costs.table:Table._logs", "max(pair)", "pair[1]", (_HARDWARE,)),
    Mutant("costs.table:_filled", "known * size / first", "known", (_HARDWARE,)),
    Mutant("costs.hardware:Hardware.product", "small, middle * large", "middle, small * large", (_HARDWARE,)),
    Mutant("costs.hardware:Hardware.grouped_product", "rows / groups", "rows", (_HARDWARE,)),
    Mutant("costs.hardware:Hardware.attention", "max(rows * heads, known.least_rows)", "rows * heads", (_HARDWARE,)),
    Mutant("costs.hardware:Hardware.attention", "if even and known.even is not None", "if known.even is not None", (_HARDWARE,)),
    Mutant("costs.hardware:Hardware.collective", '2 if kind == "all_reduce" else 1', "1", (_HARDWARE,)),
    Mutant("costs.hardware:Hardware.collective", "sent * (here - 1) / here", "sent", (_HARDWARE,)),
    Mutant("costs.hardware:Hardware._across", '(1 if kind == "all_to_all" else here)', "here", (_HARDWARE,)),
    Mutant("costs.hardware:Hardware.host_kernels", 'of_gpu if self.device == "cuda" else 1', "of_gpu", (_HOSTS,)),
    Mutant("costs.hardware:Hardware.host_seconds", 'self.host_kernels(is_compiled=self.device == "cuda")', "self.host_kernels(is_compiled=is_compiled)", (_HOSTS,)),
    Mutant("costs.hardware:Hardware.host_seconds", "work.backward_kernels * backward", "work.backward_kernels * forward", (_HOSTS,)),
    Mutant("costs.host:Host.kernels", "kernel if backward is None else backward", "kernel", (_HOSTS,)),
    Mutant("calibrate.host:HostLayers._kernels", " + kernels_of(part.again)", "", (_HOST,)),
    Mutant("calibrate.host:HostLayers._of_kernels", "self.backward(is_compiled=is_compiled) if self._on_gpu else kernel", "kernel", (_HOST,)),
    Mutant("costs.host:Host.beside_kernels", "if each is None", "if each", (_HOSTS,)),
    Mutant("costs.fill:filled", '_joined("host", measured.host.measured()', '_joined("host", {}', (_FILL,)),
    Mutant("costs.file:parse", "len(content) > MOST_BYTES", "len(content) > 2 * MOST_BYTES", (_FILE,)),
    Mutant("costs.file:_read_table", "low >= high", "low > high", (_FILE,)),
    Mutant("costs.file:_Place.whole", "isinstance(self.value, bool) or ", "", (_FILE,)),
    Mutant("costs.fill:_peaks", "if peak >= peaks[dtype]", "if True", (_FILL,)),
    Mutant("costs.fill:_collectives", "if count > max(tables)", "", (_FILL,)),
    Mutant("calibrate.stopwatch:Stopwatch._means", "if failures:", "if reason:", (_WATCH,)),
    Mutant("calibrate.stopwatch:Stopwatch._batch_on_gpu", "elapsed / 1000 / calls", "elapsed / 1000 / (calls + 1)", (_WATCH,)),
    Mutant("calibrate.stopwatch:Stopwatch._batch_seconds", "max(self._window / _BATCHES, _SLICES_SECONDS)", "self._window / _BATCHES", (_WATCH,)),
    Mutant("calibrate.stopwatch:_batch", "lasted < least", "calls < 100", (_WATCH,)),
    Mutant("calibrate.stopwatch:Stopwatch._by_host", "[_lasting(call, 1) for call in calls]", "[_lasting(partial(_run, calls), 1) for call in calls]", (_WATCH,)),
    Mutant("calibrate.stopwatch:in_turn", "kept[number] = calls[number]()", "kept[0] = calls[number]()", (_WATCH,)),
    Mutant("calibrate.host:HostLayers._summed", " - self._gathered(together)", "", (_HOST,)),
    Mutant("calibrate.host:HostLayers._split", "(self._layers - 1)", "self._layers", (_HOST,)),
    Mutant("calibrate.host:HostLayers._split", ", apart / self._layers)", ", apart)", (_HOST,)),
    Mutant("calibrate.host:HostLayers._split", "apart - group * self._layers", "apart", (_HOST,)),
    Mutant("calibrate.host:HostLayers._beside_tables", "seconds - found.compute", "seconds", (_HOST,)),
    Mutant("calibrate.host:HostLayers.recomputed", "- kernels", "", (_HOST,)),
    Mutant("calibrate.host:HostLayers._gathered", "self._on_gpu and ", "", (_HOST,)),
    Mutant("calibrate.host:HostLayers._reading", "rows // 2 if is_cut else rows", "rows", (_HOST,)),
    Mutant("calibrate.host:HostLayers._whole", "isinstance(module, Wide)", "False", (_HOST,)),
    Mutant("calibrate.host:HostLayers._calls", "if is_compiled else (self._rows,)", "", (_HOST,)),
    Mutant("calibrate.host:HostLayers._calls", "next(readings)", "self._reading(self._rows, dtype, is_cut=False)", (_HOST,)),
    Mutant("calibrate.parts:layer_layout", 'device.type == "cpu" or ', "", (_PARTS,)),
    Mutant("calibrate.exchanges:Ranks.teams", "node + self.per_node - count + 1", "node + self.per_node", (_EXCHANGES,)),
    Mutant("calibrate.computes:products", "timing.seconds / 3", "timing.seconds", (_PARTS,)),
    Mutant("calibrate.parts:Findings.take", "self._missing[name] = str(error)", "pass", (_PARTS,)),
    Mutant("calibrate.command:calibrate", "out.unlink(missing_ok=True)", "pass", (_CLI,)),
]  # fmt: skip
