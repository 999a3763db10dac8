import pytest

from isojax.targets.hlo import Array, parse_program

LOOP = """HloModule jit_f, entry_computation_layout={(f32[8,4]{1,0})->f32[4,4]{1,0}}

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add = f32[] add(%a, %b)
}

%inner (x: f32[4]) -> f32[4] {
  %x = f32[4]{0} parameter(0)
  ROOT %twice = f32[4]{0} add(%x, %x)
}

%region_0 (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p = (s32[], f32[4]{0:T(256)}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %v = f32[4]{0} get-tuple-element(%p), index=1
  %w = f32[4]{0} fusion(%v), kind=kLoop, calls=%inner
  %y = f32[4]{0} fusion(%w), kind=kLoop, calls=%inner
  ROOT %t = (s32[], /*index=1*/f32[4]{0:T(256)}) tuple(%i, /*index=1*/%y)
}

%region_1 (q: (s32[], f32[4])) -> pred[] {
  %q = (s32[], f32[4]{0}) parameter(0)
  ROOT %less = pred[] constant(true)
}

%unused (z: f32[4]) -> f32[4] {
  ROOT %z = f32[4]{0} parameter(0)
}

ENTRY %main (arg: f32[8,4]) -> (s32[], f32[4]) {
  %arg = f32[8,4]{1,0} parameter(0), metadata={op_name="jit(f)/a(b) = c"}
  %zero = f32[] constant(0)
  %start = f32[4]{0} reduce(%arg, %zero), dimensions={0}, to_apply=%sum
  %one = s32[] constant(1)
  %pair = (s32[], f32[4]{0}) tuple(%one, %start)
  ROOT %loop = (s32[], f32[4]{0}) while(%pair), condition=%region_1, body=%region_0, \
backend_config={"known_trip_count":{"n":"5"}}
}
"""


@pytest.fixture(scope="module")
def program():
    return parse_program(LOOP)


def test_instructions_have_results_and_operands(program):
    reduce = program.computations["main"]["start"]
    assert reduce.opcode == "reduce"
    assert reduce.operands == ("arg", "zero")
    assert reduce.results == (Array("f32", (4,)),)
    assert program.computations["main"]["arg"].result_bytes == 8 * 4 * 4


def test_comments_and_layouts_in_tuples_are_not_operands_or_shapes(program):
    pair = program.computations["region_0"]["t"]
    assert pair.operands == ("i", "y")
    assert pair.results == (Array("s32", ()), Array("f32", (4,)))


def test_computations_run_as_often_as_loops_and_calls_say(program):
    assert program.entry == "main"
    assert {name: program.runs[name] for name in program.computations} == {
        "sum": 1,
        "inner": 5 * 2,
        "region_0": 5,
        "region_1": 5,
        "unused": 0,
        "main": 1,
    }


def test_bodies_of_fusions_and_reductions_have_no_kernels_of_their_own(program):
    assert program.fused == {"sum", "inner"}


def test_the_short_form_of_lowered_programs_is_read():
    program = parse_program(
        "HloModule jit_f\n\n"
        "f.1 {\n  x = f32[2]{0} parameter(0)\n  ROOT y = f32[2]{0} negate(x)\n}\n\n"
        "ENTRY main.2 {\n  a = f32[2]{0} parameter(0)\n"
        "  b = f32[2]{0} call(a), to_apply=f.1\n"
        "  ROOT c = f32[2]{0} call(b), to_apply=f.1\n}\n"
    )
    assert program.runs["f.1"] == 2
    assert program.computations["f.1"]["y"].operands == ("x",)
    assert not program.fused


def test_a_text_that_is_no_program_is_refused():
    with pytest.raises(ValueError, match="entry"):
        parse_program("HloModule nothing\n")
