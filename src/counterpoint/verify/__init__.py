"""Equality with one plain process; called, the package proves it: `counterpoint.verify(config)`."""

from counterpoint.callable import make_callable

make_callable(__name__, "counterpoint.api:verify")
