"""A client that names what is no member of its own job: the bystander's, the host's, its own misspelt."""

import os

import grpc
from attacker import FACTS, got_it, note
from syndicate.client_api import Chaos, ChaosError
from syndicate.v1 import chaos_pb2, chaos_pb2_grpc

MASTER = os.environ["SYNDICATE_MASTER"]
others = sorted(FACTS["bystander"].values())
names = [*others, f" {others[0]}", f"::ffff:{others[0]}", f"{others[0]}/32", others[0] + "\0", "0.0.0.0"]
names += [
    "127.0.0.1",
    "255.255.255.255",
    FACTS["manager"].rpartition(":")[0],
    "",
    "slave-0",
    "*",
    "../" + MASTER,
]
names += [
    f"{FACTS['bystander_job']}/slave-0",
    str(int.from_bytes(bytes(map(int, others[0].split("."))), "big")),
]
with Chaos.from_env(timeout=20) as chaos:
    for name in names:
        for act in (chaos.disconnect, chaos.kill, chaos.revive, chaos.reconnect):
            for wish in (name, [MASTER, name], [name, name]):
                try:
                    act(wish)
                    got_it(f"{act.__name__} of {wish!r}")
                except (ChaosError, ValueError) as error:
                    last = error
    note(f"at last: {last}")
    for member in chaos.members():
        if member.address == MASTER and (member.generation > 1 or member.disconnected):
            got_it("its own master was touched by a call that was refused")
channel = grpc.insecure_channel(os.environ["SYNDICATE_CHAOS"])
stub = chaos_pb2_grpc.ChaosControlStub(channel)
for forged in (
    f"{FACTS['cluster']}/{FACTS['bystander_job']}/1/client-0/1",
    f"x/{FACTS['bystander_job']}/1/master/1",
):
    told = (("syndicate-task", forged), ("syndicate-session", "0" * 32), ("authorization", "Bearer x"))
    answer = stub.ListMembers(chaos_pb2.ListMembersRequest(), metadata=told, timeout=20)
    for member in answer.members:
        if member.member.address in others:
            got_it(f"members of another job, in the name of {forged}")
channel.close()
with Chaos.from_env() as chaos:
    chaos.finish("pass")
