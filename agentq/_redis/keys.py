"""Every key of ours, built in one place. All keys of a run share the hash tag `{run_id}`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys under one prefix. docs/redis-keys.md describes them."""

    prefix: str = "agentq"

    def run(self, run_id: str) -> str:
        return f"{self.prefix}:{{{run_id}}}"

    def messages(self, run_id: str) -> str:
        return f"{self.prefix}:{{{run_id}}}:messages"

    def journal(self, run_id: str) -> str:
        return f"{self.prefix}:{{{run_id}}}:journal"

    def events(self, run_id: str) -> str:
        return f"{self.prefix}:{{{run_id}}}:events"

    def files(self, run_id: str, session_id: str | None = None) -> str:
        """The files of a run; those of a session belong to the session."""
        return f"{self.prefix}:{{{run_id}}}:files" if session_id is None else f"{self.session(session_id)}:files"

    def inbox(self, run_id: str) -> str:
        """What was sent into a run and it has not seen."""
        return f"{self.prefix}:{{{run_id}}}:inbox"

    def children(self, run_id: str) -> str:
        """The runs that a run started."""
        return f"{self.prefix}:{{{run_id}}}:children"

    def signals(self, run_id: str) -> str:
        """What happened outside for a run."""
        return f"{self.prefix}:{{{run_id}}}:signals"

    def values(self, scope: str, of: str) -> str:
        """What tools keep for a run, a session or a user."""
        keys = {"run": self.run, "session": self.session, "user": self.user}
        return f"{keys[scope](of)}:values"

    def user(self, user_id: str) -> str:
        return f"{self.prefix}:user:{{{user_id}}}"

    def shared(self, key: str) -> str:
        """What all workers share for a time."""
        return f"{self.prefix}:shared:{key}"

    def breaker(self, key: str) -> str:
        """How calls of a tool went that is left in peace when they fail."""
        return f"{self.prefix}:breaker:{key}"

    def session(self, session_id: str) -> str:
        return f"{self.prefix}:session:{{{session_id}}}"

    def session_line(self, session_id: str) -> str:
        """The runs that wait behind the live one."""
        return f"{self.session(session_id)}:line"

    def session_messages(self, session_id: str) -> str:
        return f"{self.session(session_id)}:messages"

    def sessions(self, user_id: str | None = None) -> str:
        return f"{self.prefix}:sessions" if user_id is None else f"{self.prefix}:sessions:user:{user_id}"

    def places(self, concurrency_key: str) -> str:
        """The runs with this concurrency key that go on; those that wait stand in its list `:line`."""
        return f"{self.prefix}:places:{{{concurrency_key}}}"

    def tenant(self, queue: str, tenant: str | None) -> str:
        """The runs of the tenant whose wake-ups stand in the queue; the others stand in its sorted set `:line`."""
        return f"{self.prefix}:tenant:{{{queue}:{tenant or ''}}}"

    @property
    def tenants(self) -> str:
        """Queue and tenant → when a sweep looked after it."""
        return f"{self.prefix}:tenants"

    def staged(self, of: str, token: str, kind: str) -> str:
        """Where an import keeps a part (`kind`) of the run or session with the key `of` until it is whole."""
        return f"{of}:staged:{token}:{kind}"

    def live(self, run_id: str) -> str:
        """The channel on which the events of a run are published."""
        return f"{self.prefix}:{{{run_id}}}:live"

    def idempotency(self, key: str | None) -> str:
        return "" if key is None else f"{self.prefix}:key:{key}"

    @property
    def due(self) -> str:
        return f"{self.prefix}:due"

    @property
    def sweep(self) -> str:
        return f"{self.prefix}:sweep"

    @property
    def epoch(self) -> str:
        """What is known of restarts and losses of this Redis."""
        return f"{self.prefix}:epoch"

    @property
    def counts(self) -> str:
        """What runs have come to, of all agents."""
        return f"{self.prefix}:counts"

    @property
    def agents(self) -> str:
        return f"{self.prefix}:agents"

    @property
    def schedules(self) -> str:
        """The names of schedules, by next firing."""
        return f"{self.prefix}:schedules"

    def schedule(self, name: str) -> str:
        return f"{self.prefix}:schedule:{name}"

    @property
    def webhooks(self) -> str:
        """What workers have made known of webhooks."""
        return f"{self.prefix}:webhooks"

    def webhook(self, kind: str, name: str, of: str = "") -> str:
        """What is kept of one webhook: its messages (`due`, `dead`), a `message`, what was `taken`, its `counts`."""
        return f"{self.prefix}:webhooks:{kind}:{name}" + (f":{of}" if of else "")

    def unserved(self, agent: str) -> str:
        """The runs that wait for a worker with this agent."""
        return f"{self.prefix}:unserved:{agent}"

    @property
    def paused(self) -> str:
        """What is paused as a whole."""
        return f"{self.prefix}:paused"

    def parked(self, scope: str) -> str:
        """The runs that wait until what is paused as a whole is resumed."""
        return f"{self.prefix}:parked:{scope}"

    def batch(self, owner: str) -> str:
        return f"{self.prefix}:worker:{owner}:batch"

    def quiet(self, owner: str) -> str:
        """There while a worker is to take nothing new."""
        return f"{self.prefix}:worker:{owner}:quiet"

    def cancels(self, owner: str) -> str:
        """The channel on which a worker hears which of its runs were cancelled."""
        return f"{self.prefix}:worker:{owner}:cancels"

    def listing(self, kind: str | None = None, value: str = "") -> str:
        return f"{self.prefix}:runs" if kind is None else f"{self.prefix}:runs:{kind}:{value}"
