"""Methods that do what no method may, and a right one."""

import ctypes
import os
import signal
import sys
import threading
import time

import attribcheck as ac
import torch
from hypothesis.errors import StopTest

CLAIMS = [ac.holds("dummy", on="linear"), ac.holds("dummy", on="relu"), ac.holds("purity", on="linear")]


def gradient(model, x, target):
    point = x.clone().requires_grad_()
    return torch.autograd.grad(model(point).gather(1, target[:, None]).sum(), point)[0]


def hostile(f):
    def call(model, x, target, baseline=None):
        f()
        return gradient(model, x, target)

    call.__name__ = f.__name__
    return ac.method(claims=CLAIMS)(call)


@ac.method(claims=CLAIMS)
def right(model, x, target, baseline=None):
    return gradient(model, x, target)


@hostile
def exits():
    os._exit(0)


@hostile
def kills_itself():
    os.kill(os.getpid(), signal.SIGKILL)


@hostile
def segfaults():
    ctypes.string_at(0)


@hostile
def never_returns():
    time.sleep(3600)


@hostile
def never_returns_in_c():
    ctypes.PyDLL(None).pause()  # holds the interpreter's lock


class Odd(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func.__name__ in ("__get__", "dim", "size"):
            return super().__torch_function__(func, types, args, kwargs)
        raise RuntimeError("only at first sight a tensor")


@ac.method(claims=CLAIMS)
def returns_a_subclass(model, x, target, baseline=None):
    return gradient(model, x, target).as_subclass(Odd)


@hostile
def sets_the_default_device():
    torch.set_default_device("meta")


class Own(BaseException):
    pass


@hostile
def raises_its_own():
    raise Own("of its own")


@hostile
def raises_generator_exit():
    raise GeneratorExit


@hostile
def raises_stop_test():
    raise StopTest(0)


@hostile
def leaves_a_thread():
    threading.Thread(target=time.sleep, args=(3600,)).start()


@hostile
def forks():
    os.fork()


@hostile
def forks_and_stays():
    if os.fork() == 0:
        time.sleep(3600)


@hostile
def patches_torch():
    torch.relu = torch.nn.functional.relu = lambda x, inplace=False: x * 2


@hostile
def closes_stdout():
    sys.stdout.close()


@hostile
def allocates():
    torch.ones(30 * 2**30, dtype=torch.uint8)


@hostile
def raises():
    raise ValueError("no")


@hostile
def calls_exit():
    sys.exit(0)


@hostile
def recurses():
    recurses_()


def recurses_():
    return recurses_()


class Unreadable(Exception):
    def __str__(self):
        raise RuntimeError("unreadable")


@hostile
def raises_what_cannot_be_read():
    raise Unreadable


@hostile
def raises_keyboard_interrupt():
    raise KeyboardInterrupt


@hostile
def changes_folder():
    os.chdir("/")


@hostile
def prints_much():
    print("x" * 8_000_000)
    os.write(2, b"y" * 1000)


@ac.method(claims=[ac.holds("dummy", on="relu")])
def counts(model, x, target, baseline=None):
    """Hangs, and leaves a mark for each call."""
    with open("calls", "a") as file:
        file.write("x")
    time.sleep(3600)


@ac.method(claims=[ac.holds("dummy", on="conv")])
def slow(model, x, target, baseline=None):
    """Takes its time, and says in which process."""
    open(f"computing-{os.getpid()}", "w").close()
    time.sleep(0.3)
    return gradient(model, x, target)
