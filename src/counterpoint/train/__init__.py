"""The one step loop and what it writes; called, the package trains: `counterpoint.train(config)`."""

from counterpoint.callable import make_callable

make_callable(__name__, "counterpoint.api:train")
