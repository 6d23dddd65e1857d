"""SAELens' package ``sae_lens.synthetic``, path by path: one rename carries a script over.

``from sae_lens.synthetic.evals import ...`` becomes ``from synthkern.synthetic.evals import ...``.
For scripts that cannot be edited, :func:`install` puts this package in that one's place.
"""

from synthkern import _names
from synthkern._names import *
from synthkern.synthetic._install import install, uninstall

__all__ = ["install", "uninstall"]
__all__ += _names.__all__
