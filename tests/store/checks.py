"""A right row for each table, and for each invariant of the schema the changes that break it."""

ID = "'00000000-0000-7000-8000-000000000001'"
BIG = "jsonb_build_object('a', (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 17000) n))"

TABLES_OF = {
    "machines": f"""INSERT INTO fsm.machines (id, fsm, key, version, status, state_name, state, seq, rev, created_at, updated_at)
        VALUES ({ID}, 'door', 'front', 1, 'live', 'Opened', '{{}}', 0, 1, now(), now()),
               (gen_random_uuid(), 'door', 'back', 1, 'live', 'Opened', '{{}}', 0, 1, now(), now())""",
    "events": f"""INSERT INTO fsm.events (machine_id, seq, name, payload, version, outcome, source, occurred_at)
        VALUES ({ID}, 0, 'Opened', '{{}}', 1, 'applied', 'call', now())""",
    "actions": f"""INSERT INTO fsm.actions (machine_id, seq, idx, name, version, payload, tracked, status, queue, priority, lane,
               timer, created_at, run_at)
        VALUES ({ID}, 0, 0, 'NotifyIRC', 1, '{{}}', true, 'pending', 'default', 5, 'key:a', 'state:A', now(), now()),
               ({ID}, 0, 1, 'NotifyIRC', 1, '{{}}', true, 'blocked', 'default', 5, 'key:a', 'state:A', now(), now())""",
    "attempts": f"""INSERT INTO fsm.attempts (machine_id, seq, idx, token, attempt, started_at, ended_at, outcome)
        VALUES ({ID}, 0, 0, gen_random_uuid(), 1, now(), now(), 'error')""",
    "inbox": f"""INSERT INTO fsm.inbox (machine_id, name, payload, version, source, received_at)
        VALUES ({ID}, 'Close', '{{}}', 1, 'call', now())""",
    "dedup": f"INSERT INTO fsm.dedup (machine_id, key, digest, at) VALUES ({ID}, 'evt-1', '\\x00', now())",
    "snapshots": f"""INSERT INTO fsm.snapshots (machine_id, seq, version, state_name, state)
        VALUES ({ID}, 0, 1, 'Opened', '{{}}')""",
    "limits": "INSERT INTO fsm.limits (name, max_running, rate, per, burst) VALUES ('stripe', 5, 10, interval '1 s', 10)",
    "workers": """INSERT INTO fsm.workers (id, kind, host, pid, queues, known, claimed, started_at, alive_until)
        VALUES (gen_random_uuid(), 'node', 'here', 1, '{}', '{}', '{}', now(), now())""",
}


def _sets(table: str, *assignments: str) -> list[str]:
    return [f"UPDATE fsm.{table} SET {assignment}" for assignment in assignments]


def _payloads(table: str, *columns: str) -> dict[str, list[str]]:
    found = {}
    for column in columns:
        found[f"{table}_{column}_is_an_object"] = _sets(
            table, *(f"{column} = '{v}'" for v in ("[]", '"{}"', "1", "null"))
        )
        found[f"{table}_{column}_fits"] = _sets(table, f"{column} = {BIG}")
    return found


def _counts(table: str, *columns: str) -> dict[str, list[str]]:
    return {f"{table}_{column}_not_negative": _sets(table, f"{column} = -1") for column in columns}


_FIRST = "WHERE seq = 0 AND idx = 0"

CHECKS: dict[str, list[str]] = {
    "machines_status": _sets("machines", "status = 'lost'", "status = ''"),
    "machines_born_with_a_state": _sets("machines", "status = 'unborn'", "state = NULL, state_name = NULL"),
    "machines_state_is_named": _sets("machines", "state_name = NULL", "state = NULL, status = 'unborn'"),
    "machines_ended_when_ended": _sets("machines", "status = 'done'", "ended_at = now()"),
    "machines_priority": _sets("machines", "priority = 10", "priority = -1"),
    "machines_parent_has_a_queue": _sets("machines", "parent = id", "parent_queue = 'q'"),
    "machines_pruned_after_a_life": _sets("machines", "pruned = true"),
    "machines_address": _sets("machines", "key = 'same'"),
    **_payloads("machines", "state"),
    **_counts("machines", "seq", "rev", "inbox"),
    "events_outcome": _sets("events", "outcome = 'rejected'"),
    **_payloads("events", "payload"),
    **_counts("events", "seq"),
    "actions_status": _sets("actions", "status = 'lost'"),
    "actions_priority": _sets("actions", "priority = 10", "priority = -1"),
    "actions_untracked_never_runs_twice": _sets(
        "actions",
        f"tracked = false, status = 'running', token = {ID}, worker_id = {ID}, started_at = now() {_FIRST}",
    ),
    "actions_blocked_by_what": _sets("actions", "status = 'blocked', lane = NULL"),
    "actions_limit_has_a_key": _sets("actions", "limit_name = 'stripe'", "limit_key = 'tenant'"),
    "actions_has_ticket": _sets(
        "actions",
        f"status = 'published', token = {ID} {_FIRST}",
        f"status = 'published', published_at = now() {_FIRST}",
    ),
    "actions_has_claim": _sets(
        "actions",
        f"status = 'running', worker_id = {ID}, started_at = now() {_FIRST}",
        f"status = 'running', token = {ID}, started_at = now() {_FIRST}",
        f"status = 'running', token = {ID}, worker_id = {ID} {_FIRST}",
    ),
    "actions_finished_when_finished": _sets(
        "actions", f"status = 'completed' {_FIRST}", "finished_at = now()"
    ),
    "actions_budget_from_the_past": _sets("actions", "budget_from = 1"),
    **_payloads("actions", "payload", "outcome", "error"),
    **_counts("actions", "seq", "idx", "lost", "publishes"),
    "actions_attempt_not_negative": _sets("actions", "attempt = -1, budget_from = -1"),
    "actions_budget_from_not_negative": _sets("actions", "budget_from = -1"),
    "actions_lane": _sets("actions", "status = 'pending', timer = NULL"),
    "actions_timer": _sets("actions", "status = 'pending', lane = NULL"),
    "attempts_outcome": _sets("attempts", "outcome = 'completed'"),
    **_payloads("attempts", "error", "late"),
    **_counts("attempts", "attempt"),
    "inbox_machine": _sets("inbox", "machine_id = gen_random_uuid()"),
    **_payloads("inbox", "payload"),
    "dedup_machine": _sets("dedup", "machine_id = gen_random_uuid()"),
    "snapshots_machine": _sets("snapshots", "machine_id = gen_random_uuid()"),
    **_payloads("snapshots", "state"),
    "limits_max_running_not_negative": _sets("limits", "max_running = -1"),
    "limits_rate_positive": _sets("limits", "rate = 0", "rate = 'NaN'", "rate = 'Infinity'"),
    "limits_burst_positive": _sets("limits", "burst = 0"),
    "limits_per_positive": _sets("limits", "per = interval '0'"),
    "limits_rate_is_whole": _sets("limits", "rate = NULL", "per = NULL", "burst = NULL"),
    "workers_kind": _sets("workers", "kind = 'beat'"),
    **_payloads("workers", "queues", "known", "claimed"),
}
