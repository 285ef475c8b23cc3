"""The profiler: what it counts, what a schedule says, what it writes, and that nothing is left of it afterwards."""

from __future__ import annotations

import gzip
import json
import time

import numpy as np
import pytest

import gradflow as gf
from gradflow import call, profiler
from gradflow.profiler import ProfilerAction, ProfilerActivity, profile, record_function, schedule


def net(device="cpu"):
    model = gf.nn.Sequential(gf.nn.Linear(6, 4), gf.nn.Tanh(), gf.nn.Linear(4, 1)).to(device)
    optimizer = gf.optim.SGD(model.parameters(), lr=0.1)
    x = gf.ones(3, 6, device=device)

    def step():
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()

    return step


def rows(p, **how):
    return {e.key: e for e in p.key_averages(**how)}


def test_ops_backwards_and_steps_are_counted():
    step = net()
    with profile() as p:
        step()
        step()
    found = rows(p)
    assert {k: found[k].count for k in ("linear", "tanh", "sum", "tanh_backward")} == {
        "linear": 4, "tanh": 2, "sum": 2, "tanh_backward": 2,
    }  # fmt: skip
    assert found["TanhBackward0"].count == 2
    assert found["AddmmBackward0"].count == 4
    assert found["backward"].count == 2
    assert found["Optimizer.step#SGD.step"].count == 2


def test_time_is_of_the_range_and_own_time_without_those_inside():
    def slow(ctx_x):
        time.sleep(0.02)
        return ctx_x

    with profile() as p:
        with record_function("outer"):
            time.sleep(0.03)
            with record_function("inner"):
                slow(None)
        with record_function("outer"), record_function("outer"):  # of one name: the inner one's time is there already
            time.sleep(0.01)
    found = rows(p)
    assert found["outer"].count == 3
    assert 0.06e6 <= found["outer"].cpu_time_total < 0.06e6 + 0.05e6
    assert 0.02e6 <= found["inner"].self_cpu_time_total <= found["inner"].cpu_time_total < 0.07e6
    assert found["outer"].self_cpu_time_total == pytest.approx(found["outer"].cpu_time_total - found["inner"].cpu_time_total, 1e-3)
    assert p.key_averages().total_average().self_cpu_time_total == pytest.approx(found["outer"].cpu_time_total, 1e-3)
    assert p.self_cpu_time_total == pytest.approx(found["outer"].cpu_time_total, 1e-3)


def test_bytes_shapes_and_flops():
    x, w = gf.ones(3, 5), gf.ones(5, 7)
    with profile(profile_memory=True, record_shapes=True, with_flops=True) as p:
        y = x @ w
        y + y
        y.reshape(21)  # a view allocates nothing
        gf.nn.functional.linear(x, gf.ones(2, 5))
    found = rows(p, group_by_input_shape=True)
    assert found["matmul"].input_shapes == [[3, 5], [5, 7]]
    assert found["matmul"].flops == 2 * 3 * 5 * 7
    assert found["matmul"].self_cpu_memory_usage == 3 * 7 * 4
    assert found["add"].flops == 21
    assert found["linear"].flops == 2 * 3 * 5 * 2
    assert found["reshape"].cpu_memory_usage == 0
    text = p.key_averages().table(sort_by="cpu_memory_usage", row_limit=1)
    assert "84 B" in text
    assert "reshape" not in text


def test_the_same_shapes_together_and_others_apart():
    with profile(record_shapes=True) as p:
        for n in (2, 3, 3):
            gf.ones(n).exp()
    assert {str(e.input_shapes): e.count for e in p.key_averages(True) if e.key == "exp"} == {"[[2]]": 1, "[[3]]": 2}
    assert rows(p)["exp"].count == 3
    assert [e.key for e in p.events() if e.key == "exp"] == ["exp"] * 3


def test_the_line_of_the_program():
    with profile(with_stack=True) as p:
        gf.ones(2).exp()
    (event,) = (e for e in p.events() if e.key == "exp")
    assert "test_profiler.py" in event.stack[0]
    assert "gf.ones(2).exp()" in event.stack[0]


def test_a_schedule_records_the_steps_it_names():
    seen = []
    plan = schedule(wait=1, warmup=1, active=2, repeat=2, skip_first=1)
    words = [plan(i).name for i in range(10)]
    assert words == ["NONE", *["NONE", "WARMUP", "RECORD", "RECORD_AND_SAVE"] * 2, "NONE"]
    x = gf.ones(2)
    with profile(schedule=plan, on_trace_ready=lambda p: seen.append([e.key for e in p.events() if e.key.startswith("P")])) as p:
        for _ in range(10):
            x.exp()
            p.step()
    assert seen == [["ProfilerStep#3", "ProfilerStep#4"], ["ProfilerStep#7", "ProfilerStep#8"]]
    assert rows(p)["exp"].count == 2
    with pytest.raises(ValueError, match="schedule: wanted active > 0"):
        schedule(wait=0, warmup=0, active=0)


def test_traces(tmp_path):
    with profile(record_shapes=True) as p, record_function("mine"):
        gf.ones(2, 3).exp()
    p.add_metadata("who", "me")
    p.export_chrome_trace(tmp_path / "t.json")
    p.export_chrome_trace(tmp_path / "t.json.gz")
    found = json.loads((tmp_path / "t.json").read_text())
    with gzip.open(tmp_path / "t.json.gz") as file:
        assert json.load(file) == found
    assert found["who"] == "me"
    events = {e["name"]: e for e in found["traceEvents"]}
    mine, exp = events["mine"], events["exp"]
    assert (mine["ph"], mine["cat"], exp["cat"]) == ("X", "user_annotation", "cpu_op")
    assert mine["ts"] <= exp["ts"]
    assert exp["ts"] + exp["dur"] <= mine["ts"] + mine["dur"]
    assert exp["args"]["Input Dims"] == [[2, 3]]
    with profile(on_trace_ready=profiler.tensorboard_trace_handler(str(tmp_path / "log"), "w")):
        pass
    assert [f.name.split(".")[0] for f in (tmp_path / "log").iterdir()] == ["w"]


def test_stacks_for_flame_graphs(tmp_path):
    with profile(with_stack=True) as p:
        gf.ones(200, 200) @ gf.ones(200, 200)
    p.export_stacks(tmp_path / "stacks.txt")
    lines = (tmp_path / "stacks.txt").read_text().splitlines()
    assert any("test_stacks_for_flame_graphs" in line and int(line.rsplit(" ", 1)[1]) > 0 for line in lines)


def test_afterwards_calls_are_as_before():
    step = net()
    step()
    before = {name: (f.__code__, f.__defaults__, f.__kwdefaults__) for name, f in call.call_of.items() if "tanh" in name}
    values = gf.ones(3).cumsum(0)

    def fails():
        with profile():
            step()
            assert call.call_of["tanh"].__code__ is not before["tanh"][0]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    for name, parts in before.items():
        f = call.call_of[name]
        if parts[0].co_filename.startswith("<the call"):
            assert (f.__code__, f.__defaults__, f.__kwdefaults__) == parts
    step()
    assert gf.ones(3).cumsum(dim=0).tolist() == values.tolist()
    with profile() as p:
        assert gf.ones(3).cumsum(dim=0).tolist() == values.tolist()  # keywords and aliases, too
        assert gf.add(input=gf.ones(1), other=2).tolist() == [3]
        with pytest.raises(RuntimeError, match="no other profiler that runs"):
            profile().start()
    assert rows(p)["add"].count == 1


def test_a_node_recorded_before_and_walked_twice():
    x = gf.ones(3, requires_grad=True)
    y = x.exp().sum()
    with profile() as p:
        y.backward(retain_graph=True)
    y.backward()
    assert rows(p)["ExpBackward0"].count == 1
    np.testing.assert_allclose(x.grad.numpy(), 2 * np.e * np.ones(3), 1e-6)
    with profile() as p:
        (g,) = gf.autograd.grad((x**3).sum(), [x], create_graph=True)
        g.sum().backward()
    assert rows(p)["PowBackward0"].count >= 2


def test_nothing_recorded_is_told_in_a_sentence():
    with pytest.raises(RuntimeError, match="recorded something"):
        profile().key_averages()
    with profile(enabled=False) as p:
        gf.ones(2).exp()
    assert "nothing yet" in str(p)
    with pytest.raises(ValueError, match="at least one activity"):
        profile(activities=[])
    assert profiler.supported_activities() >= {ProfilerActivity.CPU}
    assert ProfilerAction.RECORD_AND_SAVE.value == 3
    with profiler.emit_nvtx(enabled=False):
        gf.ones(2).exp()


@pytest.mark.cuda
def test_on_the_card(card):
    step = net("cuda")
    step()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], profile_memory=True) as p:
        step()
    found = rows(p)
    assert found["tanh"].launches == 1
    assert found["tanh"].self_device_memory_usage >= 3 * 4 * 4
    assert found["tanh"].device_time_total > 0
    assert found["Optimizer.step#SGD.step"].launches == 1
    assert found["backward"].device_memory_usage >= found["tanh_backward"].device_memory_usage > 0
    table = p.key_averages().table(sort_by="cuda_time_total")
    for title in ("Self CUDA", "CUDA Mem", "Launches"):
        assert title in table


@pytest.mark.cuda
def test_nvtx_ranges_are_one_inside_the_other(card, monkeypatch):
    told = []
    monkeypatch.setattr(card.cuda.nvtx, "RangePush", lambda name, *rest: told.append(name))
    monkeypatch.setattr(card.cuda.nvtx, "RangePop", lambda: told.append(None))
    with profiler.emit_nvtx(), record_function("mine"):
        gf.ones(2, device="cuda").exp()
    assert told == ["mine", "exp", None, None]
