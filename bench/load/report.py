"""Prints a summary: as text for people, as plain data for JSON. Pure: lines and dicts out, no figure computed here."""

from __future__ import annotations

from dataclasses import asdict

from load.measurement import Measurement
from load.plan import Plan
from load.summary import Latency, Summary
from load.units import format_duration, format_rate, format_size

SCHEMA = "aiolsp.stress/1"
"""Name and version of the JSON form; the number grows when a reader of the old one would go wrong."""


def describe_plan(plan: Plan, loop: str, processes: int) -> list[str]:
    """What is done, in the order in which it matters."""
    kind = "a new connection each" if plan.churn else "keep-alive"
    pipelined = f", {plan.pipeline} requests in flight on each" if plan.pipeline > 1 else ""
    warmup = f" after {format_duration(plan.warmup)} of warm-up" if plan.warmup else ""
    urls = f" and {len(plan.paths) - 1:,} more" if len(plan.paths) > 1 else ""
    by = f" by {plan.target.unix}" if plan.target.unix else ""
    workers = f" in {processes} processes" if processes > 1 else ""
    return [
        f"{plan.method} {plan.url}{urls}{by}",
        f"{plan.schedule.describe()}, {plan.connections} connections, {kind}{pipelined}, "
        f"{plan.stop.describe()}{warmup}, client {plan.client} on {loop}{workers}",
    ]


def headline(summary: Summary) -> str:
    """Good answers per second, and nothing else when the run is clean."""
    rate = f"{format_rate(summary.rate).removesuffix('/s')} good answers per second"
    return f"NOT CLEAN: {rate}, but {'; '.join(summary.cautions)}" if summary.cautions else rate


def text_report(plan: Plan, summary: Summary) -> list[str]:
    """The whole report, a line each."""
    return [
        *describe_plan(plan, summary.loop, summary.processes),
        "",
        headline(summary),
        "",
        *_counts(summary),
        "",
        *_latency_table(summary),
        "",
        *_failures(summary),
        *_processors(summary),
    ]


def _counts(summary: Summary) -> list[str]:
    late = f", {summary.late:,} of them after the end" if summary.late else ""
    cut = f", {summary.cut:,} cut by the end" if summary.cut else ""
    repeated = f", {summary.repeated:,} requests sent again" if summary.repeated else ""
    statuses = ", ".join(f"{status}: {count:,}" for status, count in summary.statuses.items()) or "none"
    return [
        f"  answers      {summary.good:,} good of {summary.finished:,} in {summary.seconds:.2f} s{late}{cut}",
        f"  content      {format_size(summary.octets_per_second)}/s",
        f"  statuses     {statuses}",
        f"  connections  {summary.connections:,} opened{repeated}",
    ]


def _latency_table(summary: Summary) -> list[str]:
    service, response = summary.service, summary.response
    lines = [f"  {'latency':<8}{'service time':>14}{'response time':>16}{'slower answers':>17}   n = {service.count:,}"]
    for percent, value in service.percentiles.items():
        lines.append(_row(f"p{percent:g}", value, response.percentiles[percent], service.beyond(percent)))
    lines.append(_row("max", service.maximum, response.maximum, 0))
    lines.append(_row("mean", service.mean, response.mean, None))
    note = "service time: from the request sent; response time: from the moment it was due"
    if summary.planned_rate is None:
        note += " (closed loop: the same; give a --rate for what users would feel)"
    return [*lines, f"  {note}"]


def _row(name: str, service: float, response: float, beyond: int | None) -> str:
    count = "" if beyond is None else f"{beyond:,}"
    return f"  {name:<8}{format_duration(service):>14}{format_duration(response):>16}{count:>17}".rstrip()


def _failures(summary: Summary) -> list[str]:
    if not summary.failures:
        return ["  errors       none"]
    first, *more = (
        f"{kind.value} {count:,} ({kind.meaning}; first: {summary.examples.get(kind, '')})"
        for kind, count in summary.failures.items()
    )
    return [f"  errors       {first}", *(f"               {line}" for line in more)]


def _processors(summary: Summary) -> list[str]:
    each = f" for each of {summary.processes} processes" if summary.processes > 1 else ""
    lines = [f"  generator    {summary.generator_share:.0%} of a processor{each}"]
    if summary.server_share is not None and summary.server_seconds_per_request is not None:
        each = format_duration(summary.server_seconds_per_request * 1e9)
        lines.append(f"  server       {summary.server_share:.0%} of a processor, {each} of it for each answer")
    return lines


def json_report(plan: Plan, summary: Summary, measured: Measurement, machine: dict[str, object]) -> dict[str, object]:
    """Everything for a program: figures, plan, machine, and the histograms to compute others from. Latencies in ns."""
    record = measured.record
    return {
        "schema": SCHEMA,
        "machine": machine,
        "plan": plan_data(plan, measured),
        **figures(summary),
        "service_time": _latency_data(summary.service) | {"histogram": record.service.to_json()},
        "response_time": _latency_data(summary.response) | {"histogram": record.response.to_json()},
        "samples": [asdict(sample) for sample in measured.samples],
    }


def figures(summary: Summary) -> dict[str, object]:
    """The figures of a run, without what they were computed from."""
    return {
        "clean": not summary.cautions,
        "cautions": list(summary.cautions),
        "interrupted": summary.interrupted,
        "seconds": summary.seconds,
        "rate": summary.rate,
        "octets_per_second": summary.octets_per_second,
        "good": summary.good,
        "failed": summary.failed,
        "late": summary.late,
        "cut": summary.cut,
        "unsent": summary.unsent,
        "connections": summary.connections,
        "repeated": summary.repeated,
        "statuses": {str(status): count for status, count in summary.statuses.items()},
        "errors": {kind.value: count for kind, count in summary.failures.items()},
        "service_time": _latency_data(summary.service),
        "response_time": _latency_data(summary.response),
        "generator_processor_share": summary.generator_share,
        "server_processor_share": summary.server_share,
        "server_processor_seconds_per_answer": summary.server_seconds_per_request,
    }


def _latency_data(latency: Latency) -> dict[str, object]:
    data = asdict(latency)
    data["percentiles"] = {f"{percent:g}": value for percent, value in latency.percentiles.items()}
    return data


def plan_data(plan: Plan, measured: Measurement) -> dict[str, object]:
    """What was done, for a program; durations in ns."""
    return {
        "url": plan.url,
        "unix": plan.target.unix,
        "paths": len(plan.paths),
        "method": plan.method,
        "request": plan.digest,
        "schedule": plan.schedule.describe(),
        "rate": plan.schedule.rate,
        "duration": plan.stop.duration,
        "requests": plan.stop.requests,
        "warmup": plan.warmup,
        "connections": plan.connections,
        "keep_alive": not plan.churn,
        "pipeline": plan.pipeline,
        "client": plan.client,
        "loop": measured.loop,
        "workers": measured.processes,
        "timeout": plan.timeout,
    }
