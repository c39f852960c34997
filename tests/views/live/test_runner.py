"""What a runner does, command by command."""

import itertools
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest

import cllm_lab as lab
from cllm_lab.model.config import ConfigError, ModelConfig
from cllm_lab.model.parts.threads import run_together
from cllm_lab.training.config import TrainConfig
from cllm_lab.training.schedules import learning_rate
from cllm_lab.views.live import runner as runner_module
from cllm_lab.views.live.runner import STATES, Runner
from cllm_lab.views.live.setup import Setup
from tests.views.live.runs import (
    LANGUAGE,
    NAN_LOSS,
    OwnFault,
    assert_repeats,
    done,
    held,
    own_threads,
    small_setup,
    until,
)

CATALOGUE = lab.faults.catalogue()
WRONG_SIGN, ZERO_INIT, SORTED = (CATALOGUE[each] for each in ("wrong-sign", "zero-init", "token-sorting"))
STEPS_PER_EPOCH = 3


@pytest.fixture
def make():
    """Makes runners, and sees to it that nothing of them is left."""
    made = []

    def runner(begin=None, epochs=None, **choices) -> Runner:
        made.append(Runner(small_setup(**choices) if begin is None else begin, epochs))
        return made[-1]

    yield runner
    for each in made:
        each.close()
    assert own_threads() == []


def after(runner: Runner, *commands) -> Runner:
    """The runner when these are done, one after the other."""
    for command in commands:
        command(runner)
        done(runner)
    return runner


def steps(number: int | None):
    return lambda runner: runner.start(number)


def ids(faults) -> list[str]:
    return [fault.id for fault in faults]


def expected(n_steps: int, **choices):
    """The same machine, trained by hand."""
    trainer = small_setup(**choices).trainer()
    trainer.run(steps=n_steps)
    return trainer


def assert_same(trainer, other) -> None:
    assert trainer.history.losses == other.history.losses
    assert (trainer.params.flat == other.params.flat).all()


# Nothing moves unless it is asked for.


@pytest.mark.parametrize(
    "command",
    [
        lambda runner: runner.pause(),
        lambda runner: runner.stop(),
        lambda runner: runner.reset(),
        lambda runner: runner.new_run(seed=3),
        lambda runner: runner.change(learning_rate=0.5),
        lambda runner: runner.set_faults(["wrong-sign"]),
        lambda runner: runner.set_epochs(2),
        lambda runner: runner.set_speed(2.0),
        lambda runner: runner.frame(),
        lambda runner: runner.recipe(),
        lambda runner: runner.wait(),
        lambda runner: runner.close(),
    ],
    ids=lambda command: command.__code__.co_names[0],
)
@pytest.mark.parametrize("trained", [False, True], ids=["ready", "paused"])
def test_what_does_not_train_needs_no_thread(make, monkeypatch, command, trained):
    runner = make()
    if trained:
        after(runner, steps(2))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda self: pytest.fail("a thread was made"))
        command(runner)
    assert not runner.busy
    assert runner.error == ""


def test_a_new_run_is_ready_and_has_no_trainer(make):
    frame = make().frame()
    assert (frame.state, frame.step, frame.epoch, frame.seconds) == ("ready", 0, 0, 0.0)
    assert frame.curves.loss == () and frame.ghost is None and frame.marks == ()
    assert frame.recent == frame.console == frame.phases == ()
    assert frame.tokens_per_second is frame.remaining is None
    assert frame.plateaus == LANGUAGE.plateaus(5)
    assert frame.state in STATES


# Start, pause, step, phase, stop, reset.


def test_start_trains_so_many_steps_and_pauses(make):
    runner = after(make(), steps(4))
    assert runner.state == "paused" and not runner.busy
    assert_same(runner.trainer, expected(4))
    assert_same(after(runner, steps(3)).trainer, expected(7))


def test_start_without_a_number_trains_until_it_is_told_to_pause(make):
    runner = make()
    runner.start()
    until(lambda: runner.frame().step > 5)
    assert runner.frame().state == "running" and runner.busy
    runner.pause()
    done(runner)
    taken = runner.trainer.steps_done
    assert runner.state == "paused"
    assert_same(runner.trainer, expected(taken))


def test_a_later_start_says_how_far(make):
    runner = make()
    with held(runner):
        runner.start(5)
        runner.start(2)
    assert done(runner).trainer.steps_done == 2


def test_pause_forgets_the_steps_that_were_asked_for_and_not_yet_made(make):
    for halt, state in (("pause", "paused"), ("stop", "stopped")):
        runner = after(make(), steps(1))
        noted = []
        with held(runner):
            runner.step()
            runner.phase()
            runner.start(4)
            runner.between_steps(lambda noted=noted: noted.append("kept"))
            getattr(runner, halt)()
        assert done(runner).trainer.steps_done == 1
        assert runner.state == state and runner.frame().phases == ()
        assert noted == ["kept"]


def test_presses_are_done_in_their_order(make):
    runner = make()
    with held(runner):
        runner.step()
        runner.phase()
        runner.phase()
        runner.start(2)
        runner.step()
    # Step was pressed before the start could train: it finishes the step that was begun by phases, and pauses.
    assert done(runner).state == "paused"
    assert_same(runner.trainer, expected(2))


def test_stop_is_over_and_start_goes_on_all_the_same(make):
    runner = after(make(), steps(2), Runner.stop)
    assert runner.state == "stopped"
    assert_same(after(runner, steps(2)).trainer, expected(4))


def test_a_halt_changes_nothing_of_a_run_that_has_not_begun_or_is_over(make):
    assert after(make(), Runner.pause).state == "ready"
    assert after(make(epochs=1), steps(None), Runner.stop, Runner.pause).state == "finished"


def test_a_step_is_one_step_and_pauses(make):
    runner = after(make(), Runner.step, Runner.step)
    assert runner.state == "paused"
    assert_same(runner.trainer, expected(2))
    runner.start()
    runner.step()
    assert done(runner).state == "paused"


def test_four_phases_are_a_step(make):
    runner = make()
    for number in (1, 2):
        for count, name in enumerate(("forward", "loss", "backward", "update"), start=1):
            after(runner, Runner.phase)
            phases = runner.frame().phases
            assert [phase.name for phase in phases][count - 1 :] == [name] and len(phases) == count
            assert {phase.step for phase in phases} == {number}
            assert runner.frame().step == (number if name == "update" else number - 1)
    assert_same(runner.trainer, expected(2))
    assert [record.step for record in runner.frame().recent] == [1, 2]


@pytest.mark.parametrize("begun", [1, 2, 3])
@pytest.mark.parametrize("finish", [Runner.step, steps(1)], ids=["step", "start"])
def test_a_step_begun_by_phases_is_finished_by_the_next_one(make, begun, finish):
    runner = after(make(), *[Runner.phase] * begun, finish)
    assert_same(runner.trainer, expected(1))
    assert [phase.name for phase in runner.frame().phases] == ["forward", "loss", "backward", "update"]


@pytest.mark.parametrize("begun", [1, 3])
def test_start_goes_on_after_a_step_that_was_begun_by_phases(make, begun):
    runner = after(make(), *[Runner.phase] * begun, steps(3))
    assert_same(runner.trainer, expected(3))
    runner = after(make(epochs=2), *[Runner.phase] * begun, steps(None))
    assert runner.state == "finished" and runner.trainer.steps_done == 6


def test_with_accumulation_a_step_has_a_forward_loss_and_backward_for_each_batch(make):
    train = replace(small_setup().train, accumulate=2)
    runner = after(make(train=train), *[Runner.phase] * 7)
    names = [phase.name for phase in runner.frame().phases]
    assert names == [*("forward", "loss", "backward") * 2, "update"]
    assert_same(runner.trainer, expected(1, train=train))


def test_time_between_two_presses_is_no_time_of_training(make, monkeypatch):
    clock = itertools.count(0.0, 1e-6)
    now = SimpleNamespace(late=0.0)
    fake = SimpleNamespace(perf_counter=lambda: now.late + next(clock))
    monkeypatch.setattr(runner_module, "time", fake)
    runner = make()
    for _ in range(4):
        after(runner, Runner.phase)
        now.late += 1000.0
    assert runner.frame().step == 1
    assert runner.frame().seconds < 1000.0


def test_a_reset_begins_again_from_the_same_seed_and_leaves_a_ghost(make):
    runner = after(make(), steps(4))
    losses, curves = runner.trainer.history.losses, runner.frame().curves
    runner.reset()
    frame = runner.frame()
    assert (frame.state, frame.step, frame.seconds) == ("ready", 0, 0.0)
    assert frame.curves.loss == () and frame.recent == () and frame.console == ()
    assert frame.ghost == curves
    assert after(runner, steps(4)).trainer.history.losses == losses


def test_the_ghost_is_the_last_run_that_has_a_curve(make):
    runner = after(make(), steps(3))
    curves = runner.frame().curves
    runner.reset()
    runner.reset()
    assert runner.frame().ghost == curves
    after(runner, steps(1), Runner.reset)
    assert runner.frame().ghost == curves, "of one point no line can be drawn"
    after(runner, steps(2), Runner.reset)
    assert runner.frame().ghost.loss[-1].last == 2


def test_a_reset_while_it_trains_begins_again_and_waits(make):
    runner = make()
    runner.start()
    until(lambda: runner.frame().step > 3)
    runner.reset()
    frame = done(runner).frame()
    assert (frame.state, frame.step, frame.curves.loss) == ("ready", 0, ())
    assert frame.ghost.loss[-1].last > 3


def test_a_reset_in_the_middle_of_a_step_forgets_it(make):
    runner = after(make(), Runner.phase, Runner.phase, Runner.reset, Runner.phase)
    assert [phase.name for phase in runner.frame().phases] == ["forward"]
    assert_same(after(runner, Runner.step).trainer, expected(1))


def test_a_new_run_has_the_choices_and_keeps_the_rest(make):
    runner = after(make(epochs=4), steps(2))
    language = lab.MarkovLanguage(n_symbols=5, n_tokens=33)
    runner.new_run(corpus=language, seed=5, faults=(WRONG_SIGN,))
    after(runner, steps(2))
    assert runner.trainer.corpus is language and runner.trainer.faults == (WRONG_SIGN,)
    assert runner.setup == small_setup(corpus=language, seed=5, faults=(WRONG_SIGN,), epochs=4)
    assert_same(runner.trainer, expected(2, corpus=language, seed=5, faults=(WRONG_SIGN,)))
    assert runner.frame().plateaus == language.plateaus(5)


def test_a_new_run_that_cannot_be_changes_nothing(make):
    runner = after(make(), steps(2))
    before, trainer = runner.setup, runner.trainer
    with pytest.raises(TypeError, match="colour"):
        runner.new_run(colour="red")
    with pytest.raises(ConfigError, match="epochs"):
        runner.new_run(epochs=0)
    with pytest.raises(ValueError, match="both swap"):
        runner.new_run(faults=(WRONG_SIGN, CATALOGUE["mse-gradient"]))
    assert runner.setup is before and runner.trainer is trainer and runner.frame().step == 2
    assert_same(after(runner, steps(1)).trainer, expected(3))


@pytest.mark.parametrize("number", [0, -1, 1.5, True])
def test_a_number_of_steps_is_a_whole_one(make, number):
    runner = make()
    with pytest.raises(ConfigError, match="steps must be a whole number of at least 1"):
        runner.start(number)
    assert not runner.busy


@pytest.mark.parametrize("begin", [None, "trainer", 3, ModelConfig(vocab_size=5)], ids=repr)
def test_it_runs_a_setup_or_a_trainer_and_nothing_else(begin):
    with pytest.raises(TypeError, match=f"must be a Trainer or a Setup; got {type(begin).__name__}"):
        Runner(begin)


# Changes in mid-flight.


def test_a_change_is_in_force_from_the_next_step_on(make, tmp_path):
    runner = after(make(), steps(2))
    runner.change(learning_rate=0.125, clip_norm=None)
    after(runner, steps(2))
    assert [record.learning_rate for record in runner.trainer.history] == [0.01, 0.01, 0.125, 0.125]
    assert runner.trainer.config.clip_norm is None
    assert runner.frame().marks == ((3, "rate 0.125"), (3, "clip None"))
    assert_repeats(runner, tmp_path)


def test_a_change_while_it_trains_is_in_force_at_one_step_and_the_recipe_knows_which(make, tmp_path):
    runner = make()
    runner.start()
    until(lambda: runner.frame().step > 3)
    runner.change(learning_rate=0.5)
    until(lambda: any(record.learning_rate == 0.5 for record in runner.frame().recent))
    runner.pause()
    done(runner)
    [(step, text)] = runner.frame().marks
    rates = [record.learning_rate for record in runner.trainer.history]
    assert text == "rate 0.5" and rates == [0.01] * (step - 1) + [0.5] * (len(rates) - step + 1)
    assert_repeats(runner, tmp_path)


def test_what_is_changed_and_changed_back_between_two_steps_is_no_change(make):
    runner = after(make(), steps(1))
    runner.change(learning_rate=0.5)
    runner.change(learning_rate=0.01)
    runner.set_faults(["wrong-sign"])
    runner.set_faults([])
    after(runner, steps(1))
    assert runner.frame().marks == () and "trainer.at" not in runner.recipe()


def test_the_optimizer_changes_and_loses_its_moments(make, tmp_path):
    runner = after(make(), steps(2))
    runner.change(optimizer="momentum")
    after(runner, steps(2))
    assert runner.frame().optimizer == "momentum" and runner.frame().marks == ((3, "momentum"),)
    runner.change(optimizer="adamw", weight_decay=0.1)
    after(runner, steps(2))
    assert tuple(runner.trainer.moments) == ("first", "second") and runner.trainer.moments_since == 4
    assert_repeats(runner, tmp_path)


def test_a_change_before_the_first_step_makes_another_beginning(make, tmp_path):
    runner = make()
    runner.change(learning_rate=0.5)
    after(runner, steps(2))
    assert "trainer.at" not in runner.recipe() and runner.frame().marks == ()
    assert [record.learning_rate for record in runner.trainer.history] == [0.5, 0.5]
    assert_repeats(runner, tmp_path)


def test_a_change_that_cannot_be_is_refused_and_nothing_changes(make):
    runner = after(make(), steps(1))
    before = runner.setup
    with pytest.raises(ConfigError, match="learning_rate"):
        runner.change(learning_rate=-1.0)
    with pytest.raises(ValueError, match="batch_size cannot change"):
        runner.change(batch_size=9)
    with pytest.raises(ConfigError, match="set epochs, or total_steps"):
        runner.change(schedule="cosine")
    with pytest.raises(ConfigError, match="epochs"):
        runner.set_epochs(0)
    assert runner.setup is before


# Epochs and schedules.


def test_a_run_ends_with_its_epochs_and_goes_on_when_there_are_more(make, tmp_path):
    runner = after(make(), lambda each: each.set_epochs(2), steps(None))
    frame = runner.frame()
    assert (frame.state, frame.step, frame.epoch, frame.epochs) == ("finished", 6, 2, 2)
    assert after(runner, steps(None)).frame().step == 6 and runner.state == "finished"
    runner.set_epochs(3)
    assert after(runner, steps(None)).frame().step == 9 and runner.state == "finished"
    runner.set_epochs(None)
    assert after(runner, steps(2)).frame().step == 11 and runner.state == "paused"
    assert_repeats(runner, tmp_path)


def test_an_end_that_is_set_while_it_trains_ends_it(make):
    runner = make()
    runner.start()
    until(lambda: runner.frame().epoch >= 1)
    with held(runner):
        last = runner.trainer.epochs_done + 1
        runner.set_epochs(last)
    assert done(runner).state == "finished" and runner.trainer.epochs_done == last
    assert runner.trainer.steps_done == last * STEPS_PER_EPOCH


def test_the_epochs_come_with_the_runner_as_well(make):
    assert make(epochs=2).setup.epochs == 2
    assert make(small_setup().trainer(), 3).setup.epochs == 3


@pytest.mark.parametrize("schedule", ["cosine", "step"])
def test_a_schedule_falls_to_the_end_of_the_run_and_anew_when_that_moves(make, tmp_path, schedule):
    train = replace(small_setup().train, schedule=schedule)
    runner = after(make(small_setup(train=train, epochs=2)), steps(4))
    runner.set_epochs(4)
    after(runner, steps(None))
    ends = [6] * 4 + [12] * 8
    rates = [learning_rate(step, train, end) for step, end in enumerate(ends, start=1)]
    assert [record.learning_rate for record in runner.trainer.history] == rates
    assert_repeats(runner, tmp_path)


def test_an_end_too_near_for_the_warm_up_is_said_and_can_be_moved(make):
    train = replace(small_setup().train, schedule="cosine", warmup_steps=10)
    runner = after(make(small_setup(train=train, epochs=2)), steps(None))
    assert runner.state == "failed" and "warmup_steps=10 must be below total_steps=6" in runner.error
    runner.set_epochs(5)
    assert after(runner, steps(None)).state == "finished" and runner.trainer.steps_done == 15


def test_the_remaining_time_is_that_of_the_steps_that_are_left(make, monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(runner_module, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    runner = after(make(epochs=3), steps(4))
    frame = runner.frame()
    assert frame.tokens_per_second > 0.0
    tokens_a_step = 2 * 8
    assert frame.remaining == pytest.approx(5 * tokens_a_step / frame.tokens_per_second)
    assert after(runner, steps(None)).frame().remaining == 0.0
    runner.set_epochs(None)
    assert runner.frame().remaining is None


# What goes wrong.


def test_a_loss_that_is_no_number_is_said_and_what_was_asked_for_is_forgotten(make):
    runner = after(make(), steps(2))
    runner.set_faults([NAN_LOSS])
    with held(runner):
        runner.start(3)
        runner.step()
    frame = done(runner).frame()
    assert (frame.state, frame.step) == ("failed", 2)
    assert frame.error.startswith("NonFiniteError: step 3") and "_not_a_number" not in frame.error
    assert "NonFiniteError" in runner.trace and "Traceback" in runner.trace


def test_with_the_cause_gone_start_goes_on_where_it_stood(make, tmp_path):
    runner = after(make(), steps(2))
    runner.set_faults([NAN_LOSS])
    after(runner, steps(3))
    runner.set_faults([])
    after(runner, steps(2))
    assert (runner.state, runner.error, runner.trainer.steps_done) == ("paused", "", 4)
    assert_same(runner.trainer, expected(4))
    assert_repeats(runner, tmp_path)


def test_with_the_cause_gone_step_and_phase_go_on_too(make):
    for go_on in ([Runner.step], [Runner.phase] * 4):
        runner = after(make(), steps(2))
        runner.set_faults([NAN_LOSS])
        after(runner, *go_on[:2])
        assert runner.state == "failed"
        runner.set_faults([])
        assert_same(after(runner, *go_on).trainer, expected(3))


def test_a_rate_that_breaks_the_weights_can_be_lowered_and_the_run_reset(make):
    runner = make(train=replace(small_setup().train, optimizer="sgd", clip_norm=None, learning_rate=1e30))
    after(runner, steps(20))
    assert runner.state == "failed" and runner.error.startswith("NonFiniteError")
    runner.change(learning_rate=0.01)
    after(runner, Runner.reset, steps(20))
    assert (runner.state, runner.error, runner.trainer.steps_done) == ("paused", "", 20)


def test_changes_at_a_step_that_failed_are_repeated_by_the_recipe(make, tmp_path):
    runner = after(make(), steps(3))
    runner.set_faults([NAN_LOSS])
    runner.change(optimizer="sgd")
    after(runner, steps(1))
    assert runner.state == "failed"
    runner.set_faults([])
    runner.change(optimizer="adam")
    after(runner, steps(2), steps(2))
    assert_repeats(runner, tmp_path)


def broken_part(*arguments):
    raise KeyError("no such drawer") from OSError("the cupboard is shut")


def test_an_exception_in_a_part_is_said_with_its_cause_and_the_bench_can_be_reset(make):
    runner = after(make(), steps(2))
    runner.set_faults([OwnFault("broken", {"clipping": broken_part})])
    after(runner, steps(2))
    frame = runner.frame()
    assert (frame.state, frame.step, frame.error) == ("failed", 2, "KeyError: 'no such drawer'")
    assert "the cupboard is shut" in runner.trace and "broken_part" in runner.trace
    runner.reset()
    assert (runner.frame().state, runner.frame().error, runner.trace) == ("ready", "", "")
    assert after(runner, steps(2)).state == "failed", "the fault is still wanted"
    runner.set_faults([])
    assert_same(after(runner, Runner.reset, steps(2)).trainer, expected(2))


def test_what_a_job_of_the_callers_raises_fails_the_run(make):
    runner = after(make(), steps(1))
    runner.between_steps(broken_part)
    assert done(runner).state == "failed" and runner.error == "KeyError: 'no such drawer'"
    assert after(runner, steps(1)).trainer.steps_done == 2 and runner.error == ""


def test_a_machine_that_cannot_be_made_is_said_and_another_can(make):
    runner = make(train=replace(small_setup().train, sequence_length=9))
    after(runner, steps(1))
    assert runner.state == "failed" and "sequence_length=9 is above" in runner.error
    assert runner.trainer is None and runner.frame().step == 0
    runner.new_run(train=small_setup().train)
    assert_same(after(runner, steps(1)).trainer, expected(1))


def test_a_person_who_calls_the_trainers_own_stop_pauses_the_run(make):
    runner = make()
    runner.start()
    until(lambda: runner.frame().step > 2)
    runner.trainer.stop()
    assert done(runner).state == "paused"
    taken = runner.trainer.steps_done
    assert_same(after(runner, steps(2)).trainer, expected(taken + 2))


# Faults.


def test_a_fault_of_a_step_acts_at_the_next_one_and_goes_at_once(make, tmp_path):
    runner = after(make(), steps(2))
    runner.set_faults(["wrong-sign"])
    assert ids(runner.frame().waiting) == [] and ids(runner.frame().faults) == []
    after(runner, steps(2))
    assert ids(runner.frame().faults) == ["wrong-sign"]
    runner.set_faults([])
    after(runner, steps(1))
    frame = runner.frame()
    assert frame.faults == frame.waiting == frame.lingering == ()
    assert frame.marks == ((3, "+wrong-sign"), (5, "-wrong-sign"))
    assert_repeats(runner, tmp_path)


def test_a_fault_of_the_weights_waits_for_a_reset_and_lingers_until_another(make, tmp_path):
    runner = after(make(), steps(2))
    runner.set_faults(["zero-init", "wrong-sign"])
    after(runner, steps(1))
    assert ids(runner.frame().waiting) == ["zero-init"] and ids(runner.frame().faults) == ["wrong-sign"]
    runner.reset()
    assert ids(runner.frame().faults) == ["zero-init", "wrong-sign"] and runner.frame().waiting == ()
    after(runner, steps(2))
    assert not runner.trainer.params.flat.any() or runner.trainer.faults[0] is ZERO_INIT
    runner.set_faults([])
    after(runner, steps(1))
    frame = runner.frame()
    assert frame.faults == () and ids(frame.lingering) == ["zero-init"]
    assert_repeats(runner, tmp_path)
    runner.set_faults(["zero-init"])
    after(runner, steps(1))
    assert ids(runner.frame().waiting) == ["zero-init"], "weights that were drawn cannot be drawn again"
    runner.set_faults([])
    runner.reset()
    assert runner.frame().lingering == ()
    assert_same(after(runner, steps(1)).trainer, expected(1))


def test_a_fault_of_the_stream_waits_for_a_new_run_and_stays_until_another(make, tmp_path):
    runner = after(make(), steps(2))
    runner.set_faults(["token-sorting"])
    after(runner, steps(1))
    assert ids(runner.frame().waiting) == ["token-sorting"] and runner.frame().faults == ()
    runner.new_run(seed=1)
    after(runner, steps(2))
    assert ids(runner.frame().faults) == ["token-sorting"] and runner.frame().waiting == ()
    runner.set_faults(["wrong-sign"])
    after(runner, steps(2))
    frame = runner.frame()
    assert ids(frame.faults) == ["token-sorting", "wrong-sign"] and ids(frame.lingering) == ["token-sorting"]
    assert_repeats(runner, tmp_path)
    after(runner, Runner.reset, steps(1))
    assert ids(runner.frame().faults) == ["wrong-sign"] and runner.frame().lingering == ()


def test_a_fault_that_cannot_be_is_refused_and_nothing_changes(make):
    runner = make(faults=(WRONG_SIGN,))
    with pytest.raises(ValueError, match="no fault 'zero-int'; did you mean 'zero-init'"):
        runner.set_faults(["zero-int"])
    with pytest.raises(ValueError, match="'wrong-sign' and 'mse-gradient' both swap the slot 'loss'"):
        runner.set_faults(["wrong-sign", "mse-gradient"])
    assert runner.setup.faults == (WRONG_SIGN,)


@pytest.mark.parametrize("fault", CATALOGUE.values(), ids=lambda fault: fault.id)
def test_every_fault_of_the_catalogue_can_be_switched_on_and_off_and_repeated(make, tmp_path, fault):
    corpus = lab.load_corpus("large") if fault.id == "case-mismatch" else LANGUAGE
    model = replace(small_setup().model, n_layers=2, vocab_size=corpus.vocab_size)
    runner = after(make(corpus=corpus, model=model), steps(4))
    runner.set_faults([fault])
    after(runner, steps(4))
    if fault.takes_effect != "step":
        assert runner.frame().waiting == (fault,) and runner.frame().faults == ()
        assert_repeats(runner, tmp_path)
        after(runner, Runner.reset, steps(4))
    if runner.state != "failed":
        assert runner.frame().faults == (fault,) and runner.frame().waiting == ()
        runner.set_faults([])
        after(runner, steps(2))
    if runner.state == "failed":
        assert runner.error.startswith("NonFiniteError"), runner.trace
    else:
        assert runner.frame().lingering == (() if fault.takes_effect == "step" else (fault,))
    assert_repeats(runner, tmp_path)


# What there is to see.


def test_the_console_has_the_lines_of_a_run(make):
    faults = (CATALOGUE["init-too-large"], CATALOGUE["first-rows-instrument"])
    lines: list[str] = []
    small_setup(faults=faults).trainer().run(steps=11, console=lines.append)
    runner = after(make(faults=faults), steps(4), Runner.step, *[Runner.phase] * 4, steps(5))
    assert runner.frame().step == 11
    assert list(runner.frame().console) == lines


def test_a_validation_loss_is_in_the_curves(make):
    train = replace(small_setup().train, validation_fraction=0.3)
    runner = after(make(small_setup(train=train, epochs=2)), steps(None))
    twin = small_setup(train=train).trainer()
    twin.run(epochs=2)
    losses = [record.validation_loss for record in twin.history if record.validation_loss is not None]
    assert [point.mean for point in runner.frame().curves.validation] == losses and len(losses) == 2


def test_a_frame_taken_while_it_trains_is_of_one_moment(make):
    runner = make()
    wrong: list[str] = []
    stop = threading.Event()

    def look() -> None:
        before = 0
        while not stop.is_set():
            frame = runner.frame()
            seen = [record.step for record in frame.recent]
            last = frame.curves.loss[-1].last if frame.curves.loss else 0
            if seen != list(range(seen[0] if seen else 0, (seen[-1] if seen else -1) + 1)):
                wrong.append(f"records {seen}")
            if (seen[-1] if seen else 0) != last:
                wrong.append(f"curves to {last}, records to {seen[-1:]}")
            if not last <= frame.step <= last + 1:
                wrong.append(f"step {frame.step}, curves to {last}")
            if last < before:
                wrong.append(f"{last} after {before}")
            before = last

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    after(runner, steps(150))
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert_same(runner.trainer, expected(150))


def test_several_runners_train_at_once_each_as_if_alone(make):
    runners = [make(seed=seed) for seed in range(3)]
    for runner in runners:
        runner.start(40)
    for seed, runner in enumerate(runners):
        assert_same(done(runner).trainer, expected(40, seed=seed))


# Speed and threads.


def test_a_speed_limit_waits_between_steps_and_not_for_what_is_pressed(make):
    runner = make()
    runner.set_speed(1e-3)
    runner.start()
    until(lambda: runner.frame().step == 1)
    assert not runner.wait(0.05) and runner.trainer.steps_done == 1
    runner.set_speed(None)
    until(lambda: runner.frame().step > 5)
    runner.set_speed(1e-3)
    runner.stop()
    assert done(runner).state == "stopped"


@pytest.mark.parametrize("speed", [0, 0.0, -2.0, float("nan")])
def test_a_speed_is_above_nothing(make, speed):
    with pytest.raises(ValueError, match="steps_per_second must be above 0, or None"):
        make().set_speed(speed)


def test_wait_says_whether_there_is_nothing_left(make):
    runner = make()
    assert runner.wait(0.0)
    with held(runner):
        assert not runner.wait(0.0)
    assert runner.wait()


@pytest.mark.parametrize("halt", [Runner.pause, Runner.stop, Runner.reset, Runner.close])
def test_no_thread_is_left_after_a_halt_helpers_included(make, halt):
    runner = make()
    runner.start()
    runner.between_steps(lambda: run_together([int, int, int]))
    until(lambda: "cllm_lab helper" in own_threads())
    assert "cllm_lab bench" in own_threads()
    halt(runner)
    done(runner)
    assert own_threads() == []


def test_one_thread_does_all_the_work_and_another_only_after_it_has_ended(make):
    runner = make()
    seen: set[int] = set()
    with held(runner):
        for _ in range(3):
            runner.between_steps(lambda: seen.add(threading.get_ident()))
        runner.step()
        assert own_threads() == ["cllm_lab bench"]
    done(runner)
    assert len(seen) == 1 and threading.get_ident() not in seen


# A trainer that is given.


def test_a_trainer_at_its_first_step_is_trained_itself_and_made_anew_by_a_reset(make, tmp_path):
    given = small_setup(faults=(WRONG_SIGN,)).trainer()
    runner = after(make(given), steps(3))
    assert runner.trainer is given and "handed" not in runner.recipe()
    assert_repeats(runner, tmp_path)
    after(runner, Runner.reset, steps(3))
    assert runner.trainer is not given
    assert_same(runner.trainer, given)


@pytest.mark.parametrize(
    "choices", [{}, {"dtype": "float64", "parts": "reference"}, {"faults": (ZERO_INIT,)}]
)
def test_a_given_trainer_of_any_kind_is_trained_itself(make, tmp_path, choices):
    given = small_setup(**choices).trainer()
    runner = after(make(given, 4), steps(2))
    assert runner.trainer is given
    assert_same(given, expected(2, **choices))
    assert_repeats(runner, tmp_path)


def half_way(**choices):
    """A trainer that has done four steps, one of them of its second epoch."""
    trainer = small_setup(**choices).trainer()
    trainer.run(steps=4)
    return trainer


def test_a_trainer_with_steps_done_goes_on_and_a_reset_goes_back_to_where_it_stood(make, tmp_path):
    given = half_way()
    stood = given.state()
    runner = after(make(given), steps(3))
    assert runner.trainer is given and given.steps_done == 7
    assert_same(given, expected(7))
    assert "handed to lab.live, 4 steps done" in runner.recipe()
    assert_repeats(runner, tmp_path, trainer=half_way())
    after(runner, Runner.reset, Runner.phase)
    again = runner.trainer.state()
    assert again.arrays.keys() == stood.arrays.keys()
    for name, array in stood.arrays.items():
        assert (again.arrays[name] == array).all(), name
    assert replace(again, arrays={}) == replace(stood, arrays={})
    after(runner, Runner.step, steps(2))
    assert_same(runner.trainer, expected(7))
    assert_repeats(runner, tmp_path, trainer=half_way())


def test_what_there_is_to_see_of_a_trainer_with_steps_done_before_it_goes_on(make):
    runner = make(half_way(faults=(WRONG_SIGN,)))
    frame = runner.frame()
    assert (frame.step, frame.epoch) == (4, 1) and ids(frame.faults) == ["wrong-sign"]
    runner.set_faults(["zero-init"])
    assert ids(runner.frame().waiting) == ["zero-init"]


@pytest.mark.parametrize("done_before", [0, 4])
def test_after_a_reset_a_given_trainer_is_seen_where_it_stood(make, done_before):
    given = edited()
    if done_before:
        given.run(steps=done_before)
    runner = make(given)
    assert runner.frame().step == done_before
    after(runner, steps(3), Runner.reset)
    assert (runner.frame().step, runner.frame().epoch) == (done_before, done_before // STEPS_PER_EPOCH)
    assert after(runner, steps(1)).frame().step == done_before + 1


@pytest.mark.parametrize("done_before", [0, 4])
def test_a_fault_of_a_start_waits_for_a_new_run_where_a_reset_goes_back_to_a_given_trainer(make, done_before):
    given = edited()
    if done_before:
        given.run(steps=done_before)
    runner = make(given)
    runner.set_faults(["zero-init"])
    for _ in range(2):
        frame = runner.frame()
        assert ids(frame.waiting) == ["zero-init"] and frame.faults == () and frame.goes_back
        after(runner, steps(1), Runner.reset)
    runner.new_run(seed=1)
    assert runner.frame().waiting == () and not runner.frame().goes_back
    assert ids(after(runner, steps(1)).frame().faults) == ["zero-init"]


def test_a_trainer_with_steps_done_takes_changes_and_faults(make, tmp_path):
    runner = make(half_way())
    runner.change(learning_rate=0.25, optimizer="momentum")
    runner.set_faults(["wrong-sign"])
    after(runner, steps(3))
    assert runner.frame().marks == ((5, "rate 0.25"), (5, "momentum"), (5, "+wrong-sign"))
    assert_repeats(runner, tmp_path, trainer=half_way())
    losses = runner.trainer.history.losses
    after(runner, Runner.reset, steps(3))
    assert runner.trainer.history.losses == losses
    assert_repeats(runner, tmp_path, trainer=half_way())


def test_a_fault_that_lies_in_a_given_trainer_lingers_when_it_is_switched_off(make, tmp_path):
    runner = make(half_way(faults=(ZERO_INIT, SORTED)))
    runner.set_faults([])
    after(runner, steps(2))
    frame = runner.frame()
    assert ids(frame.faults) == ["token-sorting"] and ids(frame.lingering) == ["zero-init", "token-sorting"]
    assert_repeats(runner, tmp_path, trainer=half_way(faults=(ZERO_INIT, SORTED)))


def edited():
    """A trainer whose weights no seed draws."""
    trainer = small_setup().trainer()
    trainer.params["token_embedding"][:] *= 2.0
    return trainer


def test_weights_that_were_edited_by_hand_are_kept(make, tmp_path):
    given, twin = edited(), edited()
    twin.run(steps=3)
    runner = after(make(given), steps(3))
    assert runner.trainer is given
    assert_same(given, twin)
    assert "0 steps done" in runner.recipe()
    assert_repeats(runner, tmp_path, trainer=edited())
    assert_same(after(runner, Runner.reset, steps(3)).trainer, twin)


def test_a_knob_that_is_turned_before_the_first_start_leaves_a_given_trainer_the_one_that_is_trained(
    make, tmp_path
):
    given = small_setup().trainer()
    runner = make(given)
    runner.change(learning_rate=0.25)
    runner.set_faults(["wrong-sign"])
    after(runner, steps(2))
    assert runner.trainer is given and given.faults == (WRONG_SIGN,)
    assert [record.learning_rate for record in given.history] == [0.25, 0.25]
    assert_repeats(runner, tmp_path)
    assert_same(after(runner, Runner.reset, steps(2)).trainer, given)


def test_a_fault_of_a_start_that_is_wanted_before_the_first_start_needs_another_trainer(make, tmp_path):
    given = small_setup().trainer()
    runner = make(given)
    runner.set_faults(["zero-init"])
    after(runner, steps(2))
    assert runner.trainer is not given and given.steps_done == 0
    assert runner.trainer.faults == (ZERO_INIT,) and runner.frame().waiting == ()
    assert_repeats(runner, tmp_path)


def test_changes_that_were_planned_for_a_given_trainer_happen_after_a_reset_too(make, tmp_path):
    def planned():
        trainer = small_setup().trainer()
        trainer.at(3, learning_rate=0.5)
        return trainer

    runner = after(make(planned()), steps(4))
    rates = [0.01, 0.01, 0.5, 0.5]
    assert [record.learning_rate for record in runner.trainer.history] == rates
    assert_repeats(runner, tmp_path, trainer=planned())
    after(runner, Runner.reset, steps(4))
    assert [record.learning_rate for record in runner.trainer.history] == rates


def test_a_new_run_leaves_a_given_trainer_behind(make, tmp_path):
    given = half_way()
    runner = after(make(given), steps(1))
    runner.new_run(seed=7)
    after(runner, steps(2))
    assert given.steps_done == 5
    assert_same(runner.trainer, expected(2, seed=7))
    assert_repeats(runner, tmp_path)


def test_the_settings_of_a_given_trainer_are_what_is_wanted(make):
    train = TrainConfig(batch_size=2, sequence_length=8, schedule="cosine", total_steps=9, optimizer="adamw")
    given = small_setup(train=train, faults=(WRONG_SIGN,)).trainer()
    assert make(given, 2).setup == Setup.of(given, 2)
    with pytest.raises(ConfigError, match="set epochs, or total_steps"):
        Runner(small_setup(train=replace(train, total_steps=None), epochs=2).trainer())
