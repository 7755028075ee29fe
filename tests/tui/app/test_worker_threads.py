"""Threads that no exit waits for."""

import asyncio
import subprocess
import sys
import threading

from finetui.tui.app.worker_threads import DaemonExecutor


async def test_results_and_errors_come_back() -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(DaemonExecutor())
    assert await loop.run_in_executor(None, pow, 2, 10) == 1024
    outcome = await asyncio.gather(loop.run_in_executor(None, int, "x"), return_exceptions=True)
    assert isinstance(outcome[0], ValueError)


async def test_no_call_waits_for_another() -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(DaemonExecutor())
    together = threading.Barrier(50)  # each of them waits for all
    await asyncio.wait_for(asyncio.gather(*(loop.run_in_executor(None, together.wait) for _ in range(50))), 30)


def test_no_exit_waits_for_a_call() -> None:
    program = (
        "import asyncio, time\n"
        "from finetui.tui.app.worker_threads import DaemonExecutor\n"
        "async def main():\n"
        "    loop = asyncio.get_running_loop()\n"
        "    loop.set_default_executor(DaemonExecutor())\n"
        "    loop.run_in_executor(None, time.sleep, 600)\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
