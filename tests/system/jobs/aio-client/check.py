"""Breaks and mends both slaves at once over asyncio, and sees each effect in the list of members."""

import asyncio

from syndicate.client_api import AioChaos, NoSuchMember, TaskAlive, TaskState


async def main() -> None:
    async with AioChaos.from_env() as chaos:
        slaves = [member.address for member in await chaos.members() if member.role == "slave"]
        assert len(slaves) == 2, slaves

        killed = await asyncio.gather(*(chaos.kill(ip) for ip in slaves))
        assert all(one.processes >= 1 and not one.already for one in killed), killed
        assert await states(chaos) == [TaskState.KILLED] * 2
        assert (await chaos.kill(slaves[0])).already

        revived = await asyncio.gather(*(chaos.revive(ip, with_disk=False) for ip in slaves))
        assert [one.generation for one in revived] == [2, 2], revived
        assert await states(chaos) == [TaskState.RUNNING] * 2

        await asyncio.gather(*(chaos.disconnect(ip) for ip in slaves))
        assert [member.disconnected for member in await chaos.members()] == [False, True, True, False]
        await asyncio.gather(*(chaos.reconnect(ip) for ip in slaves))
        assert not any(member.disconnected for member in await chaos.members())

        refused = await asyncio.gather(
            chaos.revive(slaves[0], with_disk=False), chaos.kill("10.99.99.99"), return_exceptions=True
        )
        assert [type(error) for error in refused] == [TaskAlive, NoSuchMember], refused
        assert (await chaos.ping()).round_trip_ns > 0
        print("all as it should be", flush=True)
        await chaos.finish("pass", score=0.75, metrics={"slaves": 2}, text="over asyncio")


async def states(chaos: AioChaos) -> list[TaskState]:
    return [member.state for member in await chaos.members() if member.role == "slave"]


asyncio.run(main())
