import pytest

from isojax.targets import program_facts
from isojax.targets.hlo import parse_program
from isojax.targets.program_facts import Collective, Product

LOWERED = parse_program("""HloModule jit_f

layer.1 {
  x = f32[8,16]{1,0} parameter(0)
  w = bf16[16,16]{1,0} parameter(1)
  h = bf16[8,16]{1,0} convert(x)
  ROOT d = bf16[8,16]{1,0} dot(h, w), lhs_contracting_dims={1}
}

ENTRY main.2 {
  i = bf16[2,4,4,3]{3,2,1,0} parameter(0)
  k = bf16[3,3,3,8]{3,2,1,0} parameter(1)
  c = bf16[2,4,4,8]{3,2,1,0} convolution(i, k), window={size=3x3}
  z = f32[8,16]{1,0} parameter(2)
  w = bf16[16,16]{1,0} parameter(3)
  a = bf16[8,16]{1,0} call(z, w), to_apply=layer.1
  b = bf16[8,16]{1,0} call(z, w), to_apply=layer.1
  ROOT s = f32[16,16]{1,0} dot(z, z), operand_precision={highest,highest}
}
""")
COMPILED = parse_program("""HloModule jit_f

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %s = f32[] add(%a, %b)
}

%product (p: f32[8,8]) -> f32[8,8] {
  %p = f32[8,8]{1,0} parameter(0)
  ROOT %dot = f32[8,8]{1,0} dot(%p, %p)
}

%region_0 (q: f32[4]) -> f32[4] {
  %q = f32[4]{0} parameter(0)
  ROOT %r = f32[4]{0} all-reduce(%q), to_apply=%add
}

%region_1 (c: f32[4]) -> pred[] {
  %c = f32[4]{0} parameter(0)
  ROOT %l = pred[] constant(true)
}

ENTRY %main (x: f32[4], y: f32[8,8]) -> f32[4] {
  %x = f32[4]{0} parameter(0)
  %y = f32[8,8]{1,0} parameter(1)
  %g = ((f32[4]{0}), (f32[4,4]{1,0})) all-gather-start(%x), dimensions={0}
  %h = f32[4,4]{1,0} all-gather-done(%g)
  %m = f32[8,8]{1,0} fusion(%y), kind=kCustom, calls=%product, \
backend_config={"fusion_backend_config":{"kind":"__triton_nested_gemm_fusion"}}
  %e = (f32[8]{0}, f32[8,8]{1,0}) custom-call(%m), custom_call_target="EighTpu"
  %i = s32[8]{0} custom-call(%m), custom_call_target="AssumeGatherIndicesInBound"
  ROOT %w = f32[4]{0} while(%x), condition=%region_1, body=%region_0, \
backend_config={"known_trip_count":{"n":"3"}}
}
""")


def test_products_are_counted_by_type_and_precision():
    assert program_facts.products(LOWERED) == {
        Product("convolution", "bf16", "default"): 1,
        Product("product", "bf16", "default"): 2,
        Product("product", "f32", "highest"): 1,
    }


def test_collectives_in_loops_count_each_pass():
    assert program_facts.collectives(COMPILED) == {
        "all-reduce": Collective(3, 3 * 16),
        "all-gather": Collective(1, 64),
    }


def test_a_collective_that_overlaps_with_fusions_counts_once():
    """XLA for TPUs repeats it in the fusions that start, accompany and end it."""
    fusions, calls = "", ""
    for name in ("AsyncCollectiveStart", "Between", "AsyncCollectiveDone"):
        fusions += (
            f"%{name} (p: f32[4]) -> f32[4,4] {{\n"
            "  %p = f32[4]{0} parameter(0)\n"
            "  %g = f32[4,4]{1,0} all-gather(%p), "
            'backend_config={"async_collective_fusion_config":{"flag_start":"2"}}\n'
            "  ROOT %c = f32[4,4]{1,0} custom-call(%g), "
            f'custom_call_target="{name}"\n}}\n\n'
        )
        calls += f"  %{name} = f32[4,4]{{1,0}} fusion(%x), calls=%{name}\n"
    program = parse_program(
        f"HloModule m\n\n{fusions}ENTRY %main (x: f32[4]) -> f32[4,4] {{\n"
        f"  %x = f32[4]{{0}} parameter(0)\n{calls}}}\n"
    )
    assert program_facts.collectives(program) == {"all-gather": Collective(1, 64)}
    assert program_facts.library_calls(program) == {"Between": 1}


def test_libraries_are_named_and_descriptions_left_out():
    assert program_facts.library_calls(COMPILED) == {
        "Triton product": 1,
        "TPU eigendecomposition": 1,
    }


def test_bytes_are_those_of_operands_and_results_of_kernels():
    by_kernel = {
        "gather": 16 + 16 + 64,
        "fusion": 256 + 256,
        "eigh": 256 + 32 + 256,
        "indices": 256 + 32,
        "reduce": 3 * (16 + 16),
    }
    assert program_facts.bytes_accessed(COMPILED) == sum(by_kernel.values())


@pytest.mark.parametrize("dtype", ["f64", "c128"])
def test_64_bit_floats_are_found_in_any_computation(dtype):
    assert not program_facts.has_float64(COMPILED)
    text = f"HloModule f\n\nENTRY m {{\n  ROOT x = {dtype}[2]{{0}} parameter(0)\n}}\n"
    assert program_facts.has_float64(parse_program(text))


@pytest.mark.parametrize(
    "call",
    [
        'custom-call(x), custom_call_target="xla_ffi_python_cpu_callback"',
        "outfeed(x, x)",
        "recv-done(x), is_host_transfer=true",
    ],
)
def test_calls_of_the_host_are_found(call):
    assert program_facts.host_calls(COMPILED) == []
    body = f"  x = f32[] parameter(0)\n  ROOT y = () {call}\n"
    program = parse_program(f"HloModule f\n\nENTRY m {{\n{body}}}\n")
    assert program_facts.host_calls(program) == ["y"]
