"""Values that remember their hash: keys of many dictionaries, made of values that are hashed in turn."""

from abc import abstractmethod


class Hashed:
    """A value without a dictionary of its own whose hash is computed once in a process; it is not part of its state."""

    __slots__ = ("_hash",)

    _hash: int

    @abstractmethod
    def hashed(self) -> tuple[object, ...]:
        """What the hash is that of."""

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            object.__setattr__(self, "_hash", hash(self.hashed()))
            return self._hash
