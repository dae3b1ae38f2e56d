"""What worker processes fork from: a module that has imported all that a rank needs."""

import counterpoint.data.feed.reader
import counterpoint.run
import counterpoint.train.loop
import counterpoint.train.metrics.recorder
import counterpoint.train.state.saving  # noqa: F401
