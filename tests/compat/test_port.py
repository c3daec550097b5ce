"""Rewriting of programs: imports change, calls of TensorFlow are listed, all else stays as it is."""

import json

import pytest

from kstyle_torch import __main__
from kstyle_torch.compat import port

CHANGES = {
    "import keras": "import kstyle_torch as keras",
    "import keras as k": "import kstyle_torch as k",
    "import keras.layers": "import kstyle_torch as keras",
    "import keras.layers as L": "import kstyle_torch.layers as L",
    "import numpy as np, keras # both": "import numpy as np, kstyle_torch as keras # both",
    "from keras import layers, ops": "from kstyle_torch import layers, ops",
    "from  keras.layers  import (Dense, # é\n  LSTM)": "from  kstyle_torch.layers  import (Dense, # é\n  LSTM)",
    "from keras \\\n  .layers import Dense": "from kstyle_torch.layers import Dense",
    "from keras.layers.core import Dense": "from kstyle_torch.layers.core import Dense",
    "from keras.src.layers.layer import Layer": "from kstyle_torch.layers import Layer",
    "from keras.src import ops, layers": "from kstyle_torch import ops, layers",
    "from tensorflow import keras": "import kstyle_torch as keras",
    "from tensorflow import keras as k": "import kstyle_torch as k",
    "from tensorflow import keras, data": "import kstyle_torch as keras; from tensorflow import data",
    "from tensorflow.keras.layers import Dense": "from kstyle_torch.layers import Dense",
    "from tensorflow.python.keras.layers import Dense": "from kstyle_torch.layers import Dense",
    "import tensorflow.keras.layers as L": "import kstyle_torch.layers as L",
    "import tensorflow.keras.backend as K": "import kstyle_torch.backend as K",
    "import tf_keras": "import kstyle_torch as tf_keras",
    "import tensorflow as tf\nx = 'é'; tf.keras.Input((2,))": "import kstyle_torch as keras\nx = 'é'; keras.Input((2,))",
    "import tensorflow\ntensorflow.keras.Input((2,))": "import kstyle_torch as keras\nkeras.Input((2,))",
    "import tensorflow as tf\nkeras = tf.keras": "import kstyle_torch\nkeras = kstyle_torch",
    "import tensorflow as tf\nfrom tensorflow import keras\ntf.abs(tf.keras.Input((2,)))": (
        "import tensorflow as tf\nimport kstyle_torch as keras\ntf.abs(keras.Input((2,)))"
    ),
    "if 1:\n    import tensorflow as tf\n    tf.abs(tf.keras.Input((2,)))": (
        "if 1:\n    import kstyle_torch as keras\n    import tensorflow as tf\n    tf.abs(keras.Input((2,)))"
    ),
    "if 1: import tensorflow as tf\ntf.abs(tf.compat.v1.keras)": (
        "if 1: import kstyle_torch as keras; import tensorflow as tf\ntf.abs(keras)"
    ),
    "from .keras import layers\nimport keras_tuner\nfrom kerastuner import x": (
        "from .keras import layers\nimport keras_tuner\nfrom kerastuner import x"
    ),
    "s = 'import keras'  # import keras\r\n": "s = 'import keras'  # import keras\r\n",
}


@pytest.mark.parametrize(("before", "after"), CHANGES.items())
def test_imports_are_rewritten(before, after):
    assert port.port_source(before).content.decode() == after


def test_calls_of_tensorflow_are_listed():
    program = (
        "import tensorflow as tf\nfrom tensorflow import reduce_sum\n\n@tf.function\ndef f(x): return tf.nn.relu(x)\n"
    )
    ported = port.port_source(program)
    assert ported.content.decode() == "import kstyle_torch as keras\n" + program
    assert ported.left == [
        "1: import tensorflow -> nothing: kstyle_torch runs on torch",
        "2: tf.reduce_sum -> keras.ops.sum",
        "4: tf.function -> no decorator: model.compile(jit_compile=True) and torch.compile compile",
        "5: tf.nn.relu -> keras.ops.relu",
    ]


def test_private_modules_are_listed():
    ported = port.port_source("from keras.src.utils.tracking import Tracker")
    assert ported.changes == 0 and "public API" in ported.left[0]


def test_programs_that_are_not_python_are_refused():
    with pytest.raises(ValueError, match="line 2: it cannot be read as Python"):
        port.port_source("x = 1\nx = = 2")


def notebook(*sources):
    cells = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": source} for source in sources]
    cells.append({"cell_type": "markdown", "metadata": {}, "source": ["import keras, é"]})
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}, indent=1, ensure_ascii=False) + "\n"


def test_notebooks(tmp_path):
    """Cells share their names; lines for IPython and cells in other languages stay."""
    first = ["%matplotlib inline\n", "import tensorflow as tf\n", "!pip list\n"]
    others = ["%%bash\nimport keras", "x = = 1", ["tf.keras.Input((2,))\n", "tf.abs(1)"]]
    path = tmp_path / "a.ipynb"
    path.write_text(notebook(first, *others), encoding="utf-8")
    ported = port.port_file(path)
    new_first = ["%matplotlib inline\n", "import kstyle_torch as keras\n", "import tensorflow as tf\n", "!pip list\n"]
    others[-1] = ["keras.Input((2,))\n", "tf.abs(1)"]
    assert ported.content.decode() == notebook(new_first, *others)
    assert [line.partition(":")[0] for line in ported.left] == ["cell 1, line 2", "cell 3", "cell 4, line 2"]
    path.write_text("{}")
    with pytest.raises(ValueError, match="not a notebook"):
        port.port_file(path)


def test_command(tmp_path, capsys):
    source, target = tmp_path / "a.py", tmp_path / "a_kstyle_torch.py"
    text = "# -*- coding: latin-1 -*-\r\nimport keras  # \xe9\r\n".encode("latin-1")
    source.write_bytes(text)
    assert __main__.main(["port", str(source)]) == 0
    assert target.read_bytes() == text.replace(b"import keras", b"import kstyle_torch as keras")
    assert "1 import(s) and name(s) changed" in capsys.readouterr().out
    assert __main__.main(["port", str(source)]) == 1  # the target exists
    assert __main__.main(["port", str(source), str(target), "--in-place"]) == 1
    assert __main__.main(["port", str(source), "--in-place"]) == 0
    assert source.read_bytes() == target.read_bytes()
    assert __main__.main(["port", str(tmp_path / "b.txt")]) == 1
    assert __main__.main(["run", str(tmp_path / "no_such.py")]) == 1
