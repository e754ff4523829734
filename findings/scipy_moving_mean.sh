#!/usr/bin/env bash
# One spike in a curve of losses, and a moving mean is wrong from there to the end.
#
# Guess before the run: a mean over a window of 5 sees a value for 5 windows; after that it is as if it had never been.
# Seen with scipy 1.17.1 and bottleneck 1.6.0 on 1,000 float64 ones with one other number at place 100. If that is 1e17,
# all 895 means of later windows are 0 rather than 1, by uniform_filter1d as by bn.move_mean; if inf, all are NaN. If
# NaN, uniform_filter1d gives NaN to the end, bn.move_mean 1. After 1e8 among float32 ones bn.move_mean says 1.6.
# np.convolve and the mean of sliding_window_view are right in all cases.
# Why: the sum is carried along, plus the number that comes, minus the one that goes. 1 + 1e17 is 1e17, inf - inf is
# NaN.
# What follows: smoothed losses after one divergent step show zeros or nothing, and so do local variances (SSIM) of
# images by uniform_filter, to the end of the row. (For NaN: https://github.com/scipy/scipy/issues/7818.) Clip before,
# or convolve.
# Exit 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile scipy==1.17.1 bottleneck==1.6.0 numpy==2.4.6 2>/dev/null
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import bottleneck as bn
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import uniform_filter1d

means = {  # the mean of each window of five
    "uniform_filter1d": lambda x: uniform_filter1d(x, 5)[2:-2],
    "bn.move_mean": lambda x: bn.move_mean(x, 5)[4:],
    "np.convolve": lambda x: np.convolve(x, np.full(5, 0.2, x.dtype), "valid"),
    "sliding_window_view": lambda x: sliding_window_view(x, 5).mean(-1),
}
found = {}
for spike, kind in ((1e17, np.float64), (np.inf, np.float64), (np.nan, np.float64), (1e8, np.float32)):
    x = np.ones(1000, kind)
    x[100] = spike
    for name, mean in means.items():
        later = mean(x)[101:]  # windows that begin after the spike
        found[name, str(spike)] = "right" if np.allclose(later, 1) else str(np.unique(later))
        print(f"{spike:g} among {kind.__name__} ones, {name:19} {len(later)} later windows: {found[name, str(spike)]}")
as_seen = (
    all(found[name, str(spike)] == "right" for name in list(means)[2:] for spike in (1e17, np.inf, np.nan, 1e8))
    and all(found[name, "1e+17"] == "[0.]" and found[name, "inf"] == "[nan]" for name in list(means)[:2])
    and (found["uniform_filter1d", "nan"], found["bn.move_mean", "nan"]) == ("[nan]", "right")
    and (found["uniform_filter1d", "100000000.0"], found["bn.move_mean", "100000000.0"]) == ("right", "[1.6]")
)
print("as described" if as_seen else "CHANGED: this no longer is what the header describes")
sys.exit(not as_seen)
PYTHON
