"""All checks on the simulated accelerator, for a process of their own: see test_accelerator.py.

`python tests/accelerator.py NAME...` runs some of them, all without names, and prints {name: traceback} of those that
fail; `python tests/accelerator.py --quick` runs the first of each kind, `--rest` the others.
"""

import json
import os
import sys
import traceback
import warnings
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import accelerator_checks
import accelerator_data
import accelerator_layers
import accelerator_metrics
import accelerator_optimizers
import accelerator_utils
from simulated_device import NAME, SimulatedTensor, install

from kstyle_torch import config
from kstyle_torch.training.engines import invalidation, torch_functions
from kstyle_torch.training.recorded import recorder

MODULES = (
    accelerator_checks,
    accelerator_data,
    accelerator_optimizers,
    accelerator_layers,
    accelerator_metrics,
    accelerator_utils,
)


def chosen(arguments):
    """Returns {name: check} of those that the arguments ask for; a kind is the first word of a name."""
    checks = {name: check for module in MODULES for name, check in module.CHECKS.items()}
    kinds = {(module, name.split()[0]): name for module in MODULES for name in reversed(module.CHECKS)}
    names = {"--quick": [*kinds.values()], "--rest": checks.keys() - kinds.values()}
    names = names.get(arguments[0], arguments) if arguments else checks
    return {name: check for name, check in checks.items() if name in names}


def problem_of(check):
    """Returns the traceback of a check that fails, else None."""
    config.set_device(None)
    try:
        check()
    except Exception:
        return traceback.format_exc()
    return None


if __name__ == "__main__":
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "This DataLoader will create")  # more processes than there are cores
    install()
    torch_functions._ORIGINAL = torch_functions.torch_functions()  # those of the simulation stand for torch's own
    invalidation.ON_REQUEST.add(NAME)
    invalidation.ORDINARY += (SimulatedTensor,)  # of which its weights and results are, instead of torch's own classes
    recorder.ORDINARY += (SimulatedTensor,)
    checks = chosen(sys.argv[1:])
    problems = {name: problem_of(check) for name, check in checks.items()}
    print(len(checks), json.dumps({name: problem for name, problem in problems.items() if problem}))
