"""What the examples share and no lesson is about.

`flags` the command line, `terminal` manners, progress and the last lines, `pictures` all drawing, `steps` what an
earlier step defines; from step 12 on also `letters`, the poems as numbers and the loop that learns from them; `weights`
finds the models of others; `verse` and `checkpoint` serve step 18.
"""

from .flags import arguments, parse
from .steps import step
from .terminal import at_least, claim, fail, progress, result, stop_on_ctrl_c, stopped
