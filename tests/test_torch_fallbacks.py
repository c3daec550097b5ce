"""Private names of torch and their fallbacks: each name is there, and both give the same."""

from collections import OrderedDict, defaultdict, deque, namedtuple

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from kstyle_torch import _nests, _torch
from kstyle_torch._torch import NAMES, why_missing


def some(dtype, seed=0):
    """Returns tensors of several shapes, without zeros."""
    source = torch.Generator().manual_seed(seed)
    shapes = ((3,), (2, 5), (), (40,))
    return [(torch.rand(shape, generator=source) * 4 - 2).add_(0.01).to(dtype) for shape in shapes]


def positive(dtype, seed=0):
    return [tensor.abs() for tensor in some(dtype, seed)]


FOREACH = {  # arguments after the first list
    "abs": [()],
    "add": [(some,), (0.3,)],
    "addcdiv": [(some, positive), (some, positive, -0.3)],
    "addcmul": [(some, some), (some, some, 0.3)],
    "clamp_max": [(0.3,)],
    "clamp_min": [(0.3,)],
    "copy": [(some,)],
    "div": [(some,), (0.3,)],
    "lerp": [(some, 0.1), (some, 0.9)],
    "maximum": [(some,)],
    "mul": [(some,), (0.3,), (lambda dtype, seed: torch.tensor(0.3, dtype=dtype),)],
    "norm": [(), (float("inf"),)],
    "pow": [(0.5,), (2.0,)],
    "sign": [()],
    "sqrt": [()],
    "sub": [(some,)],
    "zero": [()],
}


def same(one, other):
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def compare_foreach(name):
    def compare(private, public):
        for arguments in FOREACH[name.removesuffix("_")]:
            options = [{}, {"alpha": -0.3}] if name in ("add", "add_") and arguments == (some,) else [{}]
            for dtype, kwargs in ((dtype, each) for dtype in (torch.float32, torch.float64) for each in options):
                results = []
                for call in (private, public):
                    tensors = positive(dtype) if name.startswith(("pow", "sqrt")) else some(dtype)
                    given = [each(dtype, seed) if callable(each) else each for seed, each in enumerate(arguments, 1)]
                    returned = call(tensors, *given, **kwargs)
                    results.append(tensors if name.endswith("_") else list(returned))
                same(*results)
        for call in (private, public):
            if FOREACH[name.removesuffix("_")][0] == (some,):
                with pytest.raises(RuntimeError):
                    call(some(torch.float32), some(torch.float32)[:2])

    return compare


def compare_crossentropy(private, public):
    for reduction in range(3):
        results = []
        for call in (private, public):
            p = torch.tensor([0.0, 0.3, 0.9, 1.0], requires_grad=True)
            values = call(p, torch.tensor([0.0, 1.0, 0.2, 0.0]), torch.tensor([1.0, 2.0, 0.5, 1.0]), reduction)
            results.append((values, *torch.autograd.grad(values.sum(), p)))
        same(*results)
    for call in (private, public):
        with pytest.raises(RuntimeError, match="0 and 1"):
            call(torch.tensor([1.5]), torch.tensor([1.0]), None, 1)


def compare_draws(private, public):
    alpha = torch.tensor([[0.1, 1.0, 5.0], [2.0, 3.0, 0.5]])
    results = []
    for call in (private, public):
        torch.manual_seed(1)
        source, before = torch.Generator().manual_seed(7), torch.get_rng_state()
        drawn = [call(alpha, generator=source), call(alpha, generator=source)]
        assert torch.equal(before, torch.get_rng_state())  # what is drawn from one generator leaves the other
        results.append([*drawn, call(alpha), torch.get_rng_state(), source.get_state()])
    same(*results)


def compare_backward(private, public):
    results = []
    for call in (private, public):
        x, w = torch.arange(3.0, requires_grad=True), torch.ones(3, requires_grad=True)
        unused = torch.ones(2, requires_grad=True)
        options = {"allow_unreachable": True}
        call((x * w * 2,), (torch.ones(3),), False, False, (), accumulate_grad=True, **options)
        root = (x * w).sum()
        found = call((root,), (torch.ones(()),), False, False, (x, unused), accumulate_grad=False, **options)
        assert found[1] is None
        results.append([x.grad, w.grad, found[0]])
    same(*results)


def compare_grad_switch(private, public):
    for call in (private, public):
        for mode in (False, True):
            call(mode)
            assert torch.is_grad_enabled() is mode


def compare_below_autograd(private, public):
    weight = torch.ones(3, requires_grad=True)
    for block in (private, public):
        with block():
            assert not (weight * 2).requires_grad
        assert (weight * 2).requires_grad


def compare_classes(private, public):
    classes = [each for each in vars(nn).values() if isinstance(each, type)]
    chosen = [each for each in classes if issubclass(each, private)]
    assert chosen == [each for each in classes if issubclass(each, public)] and chosen


def compare_setting(flag, switch):
    def compare(private, public):
        before = private()
        for value in (not before, before):
            switch(value)
            assert private() == public() == value, flag

    return compare


def compare_dispatch_modes(private, public):
    class Mode(_torch.TorchDispatchMode):
        pass

    assert private() == 0 and public()  # assumes that there is one
    with Mode():
        assert private() == 1


def compare_saved_tensors_hooks(private, public):
    assert private(True) is None
    assert public(True) is not None  # assumes that there are some
    with torch.autograd.graph.saved_tensors_hooks(torch.neg, torch.neg):
        assert private(True) == (torch.neg, torch.neg)


def compare_global_hooks(private, public):
    assert not private() and public()
    handle = nn.modules.module.register_module_forward_hook(lambda *arguments: None)
    assert private()
    handle.remove()


def compare_dispatch_mode_class(private, public):
    assert private is _torch.TorchDispatchMode
    with pytest.raises(NotImplementedError):
        public()


def compare_fake_mode(private, public):
    assert public is None
    with NAMES["torch._subclasses.fake_tensor.FakeTensorMode"].find()():
        assert _torch.fake_mode() is not None and _torch._fake_mode_by_example() is not None
    assert _torch.fake_mode() is None and _torch._fake_mode_by_example() is None


def compare_versions(private, public):
    tensor = torch.ones(2)
    before = private(tensor), public(tensor)
    assert private(tensor) == before[0] and public(tensor) != before[1]  # assumes that everything changes
    tensor.add_(1)
    assert private(tensor) != before[0]


def compare_views(private, public):
    tensor = torch.ones(4)
    assert private(tensor[1:]) and not private(tensor) and public(tensor)


def compare_gradient_hooks(private, public):
    weight = nn.Parameter(torch.ones(2))
    assert not private(weight) and public(weight)
    handle = weight.register_hook(print)
    assert private(weight)
    handle.remove()


def compare_after_hooks(private, public):
    weight = nn.Parameter(torch.ones(2))
    assert not private(weight) and public(weight)
    weight.register_post_accumulate_grad_hook(print)
    assert private(weight)


def compare_generators(private, public):
    first, second = torch.Generator(), torch.Generator()
    for call in (private, public):
        assert call(first) == call(first) != call(second)


def compare_storages(private, public):
    tensor = torch.empty(6, device="meta")
    other = torch.empty(6, device="meta")
    for call in (private, public):
        assert call(tensor.untyped_storage()) == call(tensor[2:].untyped_storage()) != call(other.untyped_storage())


def compare_fused(private, public):
    assert callable(private)
    with pytest.raises(NotImplementedError):
        public([], [])


def compare_bindings(private, public):
    assert {"relu", "gelu", "add_"} & {*dir(private)}
    assert not [name for name in vars(public) if not name.startswith("__")]


def compare_compiling(private, public):
    with private():
        assert torch.compiler.is_compiling()
    with public():
        assert not torch.compiler.is_compiling()


def is_off(private, public):
    assert callable(private) and public is None


def compare_product(private, public):
    assert public is None
    x, weight, bias = torch.randn(9, 7), torch.randn(5, 7), torch.randn(5)
    torch.testing.assert_close(private(x, weight, bias, "none", [], ""), nn.functional.linear(x, weight, bias))


def compare_modes(private, public):
    assert private() == []
    assert public() == [None]  # some mode, which is not ours


def compare_transforms(private, public):
    assert private() is None
    assert public() is not None
    found = []
    torch.vmap(lambda x: found.append(private()) or x)(torch.ones(2))
    assert found[0] is not None


def compare_static_address(private, public):
    assert callable(private) and public(torch.ones(1), guard=False) is None


Pair = namedtuple("Pair", "a b")
Other = namedtuple("Other", "a b")
NESTS = [
    *(3, None, [], [1, (2, [None])], {"b": 1, "a": [2, 3]}, OrderedDict(b=1, a=2), defaultdict(list, a=[1], c=2)),
    *(
        deque([1, [2]], 5),
        deque([3, [4]], 7),
        Pair(1, [2]),
        Other(3, [4]),
        {"a": [4, 5], "b": 6},
        torch.ones(2, 2).min(0),
    ),
    *(torch.ones(2, 2).max(0), torch.Size([2, 3]), {"x": {}}, range(2)),
]


def lengths(*leaves):
    return len(str(leaves))  # an int, since a torch.Size holds nothing else


def compare_pytree(private, public):
    assert public is None
    for nest in NESTS:
        results = [facts_of(module, nest) for module in (private, _nests)]
        assert results[0] == results[1]
        for other in NESTS:
            results = [facts_of_two(module, nest, other) for module in (private, _nests)]
            assert results[0] == results[1], (nest, other)


def facts_of(module, nest):
    leaves, spec = module.tree_flatten(nest)
    for wrong in ([*leaves, 0], [*leaves, 0][1:-1] if leaves else [0]):
        with pytest.raises(ValueError):
            module.tree_unflatten(wrong, spec)
    made = module.tree_unflatten([*range(len(leaves))], spec)
    kept = module.tree_map(str, [nest, 1], is_leaf=lambda node: node is nest)
    return str([leaves, module.tree_leaves(nest), module.tree_is_leaf(nest), made, type(made), kept])


def facts_of_two(module, nest, other):
    try:
        mapped = str(module.tree_map(lengths, nest, other))
    except ValueError:
        mapped = "they differ"
    return module.tree_structure(nest) == module.tree_structure(other), mapped


CHECKS = {
    **{path: compare_foreach(path.removeprefix("torch._foreach_")) for path in NAMES if "._foreach_" in path},
    "torch._fused_adamw_": compare_fused,
    "torch._fused_sgd_": compare_fused,
    "torch._C._nn.binary_cross_entropy": compare_crossentropy,
    "torch._standard_gamma": compare_draws,
    "torch._sample_dirichlet": compare_draws,
    "torch.autograd.graph._engine_run_backward": compare_backward,
    "torch._C._set_grad_enabled": compare_grad_switch,
    "torch._C._AutoDispatchBelowAutograd": compare_below_autograd,
    "torch.nn.modules.batchnorm._BatchNorm": compare_classes,
    "torch.nn.modules.batchnorm._NormBase": compare_classes,
    "torch._C._VariableFunctions": compare_bindings,
    "torch._C.TensorBase": compare_bindings,
    "torch._C._nn": compare_bindings,
    "torch.ops.mkldnn._linear_pointwise": compare_product,
    "torch.utils._python_dispatch._get_current_dispatch_mode_stack": compare_modes,
    "torch._C._functorch.peek_interpreter_stack": compare_transforms,
    "torch._C._get_mkldnn_enabled": compare_setting("mkldnn", torch.backends.mkldnn.set_flags),
    "torch._C._get_cudnn_enabled": compare_setting("cudnn", torch.backends.cudnn.set_flags),
    "torch._C._get_flash_sdp_enabled": compare_setting("flash", torch.backends.cuda.enable_flash_sdp),
    "torch._C._get_mem_efficient_sdp_enabled": compare_setting("sdp", torch.backends.cuda.enable_mem_efficient_sdp),
    "torch._C._get_math_sdp_enabled": compare_setting("math", torch.backends.cuda.enable_math_sdp),
    "torch._C._len_torch_dispatch_stack": compare_dispatch_modes,
    "torch._C._autograd._top_saved_tensors_default_hooks": compare_saved_tensors_hooks,
    "torch.nn.modules.module._has_any_global_hook": compare_global_hooks,
    "torch.utils._python_dispatch.TorchDispatchMode": compare_dispatch_mode_class,
    "torch._C._get_dispatch_mode": compare_fake_mode,
    "torch._C._TorchDispatchModeKey": compare_fake_mode,
    "torch.Tensor._version.__get__": compare_versions,
    "torch.Tensor._is_view": compare_views,
    "torch.Tensor._backward_hooks.__get__": compare_gradient_hooks,
    "torch.Tensor._post_accumulate_grad_hooks.__get__": compare_after_hooks,
    "torch.Generator._cdata.__get__": compare_generators,
    "torch.UntypedStorage._cdata.__get__": compare_storages,
    "torch._C._storage_Use_Count": is_off,  # tests of Gatherer compare what it then does
    "torch.compiler._compile_session_context": compare_compiling,
    "torch._dynamo.mark_static_address": compare_static_address,
    "torch._inductor.config.patch": is_off,
    "torch._higher_order_ops.while_loop.while_loop": is_off,
    "torch._higher_order_ops.scan.scan": is_off,
    "torch._dispatch.python.enable_python_dispatcher": is_off,
    "torch._subclasses.fake_tensor.FakeTensorMode": is_off,
    "torch.utils._sympy.printers.PythonPrinter": is_off,
    "torch.utils._pytree": compare_pytree,
}


@pytest.mark.parametrize("path", NAMES)
def test_a_private_name_and_its_fallback_give_the_same(path):
    name = NAMES[path]
    CHECKS[path](name.find(), name.fallback)


def test_nothing_is_checked_that_is_not_used():
    assert CHECKS.keys() == NAMES.keys()


def test_function_modes_are_seen_by_a_public_function():
    assert not torch.overrides.has_torch_function((None,))
    with TorchFunctionMode():
        assert torch.overrides.has_torch_function((None,))


def test_what_is_missing_is_named(monkeypatch):
    assert why_missing("recording", "compiling", "compiled epochs", "tracing") is None
    path = "torch._C._len_torch_dispatch_stack"
    name = NAMES[path]
    monkeypatch.setitem(NAMES, path, _torch.Private(name.find, name.fallback, lambda: name.fallback, "recording"))
    why_missing.cache_clear()
    assert path in why_missing("recording") and torch.__version__ in why_missing("recording")
    assert why_missing("compiling") is None
    why_missing.cache_clear()


def test_what_torch_lacks_becomes_the_fallback():
    assert _torch._got("torch._nothing", lambda: torch._nothing, "public") == "public"
    lost = _torch.late("torch._no_such_module.name", "public")
    assert NAMES.pop("torch._no_such_module.name").get() == lost() == "public"


def test_unknown_names_in_the_environment_are_an_error(monkeypatch):
    for given in ({"1"}, {"torch._foreach_add_"}, set()):
        monkeypatch.setattr(_torch, "_given", given)
        _torch.check_given()
    monkeypatch.setattr(_torch, "_given", {"torch._foo"})
    with pytest.raises(ValueError, match=rf"{_torch.VARIABLE} must be 1, or names .* got \['torch._foo'\]"):
        _torch.check_given()
