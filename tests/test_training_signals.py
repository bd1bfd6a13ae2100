"""What a signal does: at once, kept for later, handed on twice, or insisted on."""

import signal
import subprocess
import sys
import threading

import pytest

import mocse_timm.training.signals as signals
from mocse_timm.checks import Stopped, command
from mocse_timm.training.signals import StopSignals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_before_there_is_anything_to_save_a_signal_ends_the_command(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    @command
    def main() -> None:
        with StopSignals():
            signal.raise_signal(number)
        raise AssertionError

    before = signal.getsignal(number)
    assert main() == 128 + number
    assert capsys.readouterr().err == "stopped before there was anything to save\n"
    assert signal.getsignal(number) is before


def test_a_deferred_signal_is_kept_and_one_handed_on_twice_is_one(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    with StopSignals() as kept:
        kept.defer()
        assert kept.received is None
        signal.raise_signal(signal.SIGINT)
        now[0] += 0.9
        signal.raise_signal(signal.SIGTERM)  # the launcher's
        assert kept.received == signal.SIGINT
        assert capfd.readouterr().err.count("a second signal stops at once") == 1
        now[0] += 0.1
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_signal_ends_also_what_a_shell_started_in_the_background() -> None:
    """There Ctrl-C is ignored from the start."""
    code = (
        "import signal, time; from mocse_timm.training.signals import StopSignals\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "with StopSignals() as kept:\n"
        "    kept.defer()\n"
        "    signal.raise_signal(signal.SIGINT); time.sleep(1.1); signal.raise_signal(signal.SIGINT)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == -signal.SIGINT, ended.stderr


def test_only_the_main_thread_is_handed_signals() -> None:
    entered: list[StopSignals] = []

    def enter() -> None:
        with StopSignals() as kept:
            entered.append(kept)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert len(entered) == 1


def test_a_stop_without_a_message_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    @command
    def main() -> None:
        raise Stopped("", signal.SIGTERM)

    assert main() == 143
    assert capsys.readouterr().err == ""
