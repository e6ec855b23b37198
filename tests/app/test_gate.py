from __future__ import annotations

import asyncio
import threading

import pytest

from anomalib_xray.app.gate import Gate, Limits, Place
from anomalib_xray.app.guard import RequestError


async def never() -> None:
    await asyncio.Event().wait()


async def at_once() -> None:
    return


def test_what_nobody_waits_for_any_more_is_not_begun() -> None:
    released = threading.Event()
    begun: list[str] = []

    def job(name: str) -> bytes:
        begun.append(name)
        assert released.wait(30)
        return name.encode()

    async def asked() -> bytes:
        gate = Gate(Limits(places=3, arrivals=3, wait_seconds=30, grace=0, bodies=0))
        async with Place(gate) as first, Place(gate) as second, Place(gate) as third:
            working = asyncio.create_task(first.run(lambda: job("first"), never))
            while not begun:
                await asyncio.sleep(0)
            with pytest.raises(RequestError):
                await second.run(lambda: job("left"), at_once)
            released.set()
            return await working + await third.run(lambda: job("third"), never)

    assert asyncio.run(asked()) == b"firstthird"
    assert begun == ["first", "third"]


def test_work_that_has_begun_is_finished_though_its_browser_left() -> None:
    async def asked() -> bytes:
        async with Place(Gate(Limits(places=1, arrivals=1, wait_seconds=30, grace=0, bodies=0))) as place:
            begun, released = threading.Event(), threading.Event()

            def job() -> bytes:
                begun.set()
                assert released.wait(30)
                return b"done"

            async def gone() -> None:
                while not begun.is_set():
                    await asyncio.sleep(0)
                released.set()

            return await place.run(job, gone)

    assert asyncio.run(asked()) == b"done"
