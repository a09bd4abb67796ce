"""What `benchmark.py` measures, a file each; it is started from a clone, with the package installed."""

import mxnet_resnet.engines.mxnet  # noqa: F401  (before any `import mxnet`)
