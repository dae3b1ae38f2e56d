"""Where steps are read: by threads of the rank, or by a process beside it."""

from counterpoint.data.corpus import Corpus
from counterpoint.data.feed.process import ProcessFeed
from counterpoint.data.feed.reader import Reader
from counterpoint.data.feed.threads import Feed, Reading, ThreadFeed


def open_feed(reader: Reader, corpus: Corpus, reading: Reading) -> Feed:
    """What reads the steps of a corpus for the rank of a reader."""
    return ProcessFeed(reader, corpus, reading) if reading.has_process else ThreadFeed(reader, corpus, reading)
