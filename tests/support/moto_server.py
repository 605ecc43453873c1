# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""moto's server on loopback, with what moto leaves out: health, throttling, refusals, lost answers.

moto calls every target healthy at once and refuses nobody. So a small WSGI application stands in
front of it: it answers for the health of targets where a test says so, spoils chosen calls, and
routes requests to /front/... as the load balancer would, by the rules that moto holds.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

import boto3
from botocore.config import Config
from moto.backends import get_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from ansible_collections.immutable.delivery.plugins.module_utils.alb.roles import name_of
from ansible_collections.immutable.delivery.plugins.module_utils.alb.rules import (
    Request,
    Rule,
    route,
    rule_from,
)

ACCOUNT = "123456789012"
REGION = "eu-west-1"
HEALTH_NAMESPACE = "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"
MotoT = TypeVar("MotoT", bound="Moto")
Start = Callable[[str, list[tuple[str, str]]], Any]


@dataclass
class Fault:
    """Spoils calls.

    :param at: the first call that it strikes, counted from 1 since the faults were set.
    :param times: how many calls it strikes from there on.
    :param lost: whether the call is carried out all the same, and only its answer is lost.
    :param action: counts and strikes calls of this name only.
    """

    at: int
    code: str = "ValidationError"
    status: int = 400
    times: int = 1
    lost: bool = False
    action: str = ""

    def strikes(self, calls: Sequence[str]) -> bool:
        """Whether it strikes the last of *calls*."""
        if self.action and self.action != calls[-1]:
            return False
        number = calls.count(self.action) if self.action else len(calls)
        return self.at <= number < self.at + self.times


THROTTLED: dict[str, Any] = {"code": "Throttling", "status": 400}
DENIED: dict[str, Any] = {"code": "AccessDenied", "status": 403}
BROKEN: dict[str, Any] = {"code": "ServiceUnavailable", "status": 503, "lost": True}


class _Quiet(WSGIRequestHandler):  # type: ignore[misc]
    def log(self, type: str, message: str, *args: Any) -> None:
        """Say nothing."""


@dataclass
class Moto:
    """The server. ``calls`` names each call since ``reset_calls``, ``actions`` as policies do."""

    url: str = ""
    calls: list[str] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    # The actions that the caller may use, as policies name them; None for all.
    allowed: Collection[str] | None = None
    faults: list[Fault] = field(default_factory=list)
    # By target group, what each further look at its health shows; the last one stays.
    health: dict[str, list[Sequence[tuple[str, str, str]]]] = field(default_factory=dict)
    # Run once, before the call of that name is carried out.
    before: dict[str, Callable[[], object]] = field(default_factory=dict)
    # How many rules a page has where the caller does not say; None for moto's 50.
    rules_a_page: int | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _clients: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)

    def reset_calls(self, *faults: Fault) -> None:
        """Begin to count anew, and spoil the calls that *faults* name."""
        with self._lock:
            self.calls.clear()
            self.actions.clear()
            self.faults[:] = faults

    @property
    def written(self) -> list[str]:
        """The calls that were not only reading."""
        return [call for call in self.calls if not call.startswith("Describe")]

    def client(self, service: str) -> Any:
        """A client for preparing and looking; its calls are not counted."""
        if service not in self._clients:
            self._clients[service] = boto3.client(
                service,
                endpoint_url=self.url,
                region_name=REGION,
                aws_access_key_id="test",
                aws_secret_access_key="test",
                config=Config(user_agent_extra="uncounted"),
            )
        return self._clients[service]

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith("/front/"):
            return self._front(environ, start)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        if "uncounted" in environ.get("HTTP_USER_AGENT", ""):
            return self._pass(environ, start)
        form = parse_qs(body.decode(errors="replace"))
        # APIs that take JSON name the operation in a header.
        target = str(environ.get("HTTP_X_AMZ_TARGET", "?"))
        action = form.get("Action", [target.rpartition(".")[2]])[0]
        full = f"{_service(environ)}:{action}"
        with self._lock:
            self.calls.append(action)
            self.actions.append(full)
            fault = next((item for item in self.faults if item.strikes(self.calls)), None)
            hook = self.before.pop(action, None)
        if hook is not None:
            hook()
        if action == "DescribeRules" and self.rules_a_page and "PageSize" not in form:
            body += f"&PageSize={self.rules_a_page}".encode()
            environ.update({"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))})
        if fault is not None:
            if fault.lost:
                list(self._pass(environ, lambda *_answer: None))
            return _refuse(start, fault, action)
        if self.allowed is not None and full not in self.allowed:
            return _refuse(start, Fault(0, "AccessDenied", 403), full)
        return self._answer(environ, start, action, form)

    def _answer(
        self, environ: dict[str, Any], start: Start, action: str, form: dict[str, list[str]]
    ) -> Iterable[bytes]:
        """Carry a call out."""
        group = form.get("TargetGroupArn", [""])[0]
        if action == "DescribeTargetHealth" and group in self.health:
            return self._tell_health(group, start)
        return self._pass(environ, start)

    def _pass(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        answer: Iterable[bytes] = self._moto(environ, start)
        return answer

    def _tell_health(self, group: str, start: Start) -> Iterable[bytes]:
        with self._lock:
            looks = self.health[group]
            targets = looks.pop(0) if len(looks) > 1 else looks[0]
        members = "".join(
            f"<member><Target><Id>{name}</Id><Port>80</Port></Target><TargetHealth>"
            f"<State>{state}</State>{f'<Reason>{reason}</Reason>' if reason else ''}"
            "</TargetHealth></member>"
            for name, state, reason in targets
        )
        text = (
            f'<DescribeTargetHealthResponse xmlns="{HEALTH_NAMESPACE}"><DescribeTargetHealthResult>'
            f"<TargetHealthDescriptions>{members}</TargetHealthDescriptions>"
            "</DescribeTargetHealthResult></DescribeTargetHealthResponse>"
        )
        return answer_xml(start, "200 OK", text)

    def rules(self, listener: str) -> list[Rule]:
        """The rules that moto holds, read without a call."""
        held = get_backend("elbv2")[ACCOUNT][REGION].describe_rules(listener, None)
        return [
            rule_from(
                {
                    "RuleArn": rule.arn,
                    "Priority": str(rule.priority),
                    "IsDefault": rule.is_default,
                    "Conditions": rule.conditions,
                    "Actions": [action.data for action in rule.actions],
                }
            )
            for rule in held
        ]

    def routed(self, listener: str, mode: str = "", path: str = "/") -> dict[str, int] | int:
        """The shares in per cent of the groups that a client is sent to, or a status."""
        headers = (("x-client-mode", mode),) if mode else ()
        answer = route(self.rules(listener), Request(path, headers=headers))
        if answer.status is not None:
            return answer.status
        return {name_of(arn): round(share * 100) for arn, share in answer.shares.items()}

    def front(self, listener: str) -> str:
        """Where clients of *listener* ask; the answer tells which group gave it."""
        return f"{self.url}/front/{listener}"

    def _front(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        listener = environ["PATH_INFO"].removeprefix("/front/")
        routed = self.routed(listener, environ.get("HTTP_X_CLIENT_MODE", ""))
        if isinstance(routed, int):
            start(f"{routed} -", [("Content-Length", "0")])
            return []
        name = max(routed, key=lambda group: routed[group])
        body = json.dumps({"version": name}).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start("200 OK", [*headers, ("X-Version", name)])
        return [body]


def _service(environ: Mapping[str, Any]) -> str:
    """The service that a call is signed for, by the name that policies have for it."""
    scope = str(environ.get("HTTP_AUTHORIZATION", "")).partition("Credential=")[2].split("/")
    name = scope[3] if len(scope) > 3 else "?"
    return {"monitoring": "cloudwatch"}.get(name, name)


def answer_xml(start: Start, status: str, text: str) -> Iterable[bytes]:
    body = text.encode()
    start(status, [("Content-Type", "text/xml"), ("Content-Length", str(len(body)))])
    return [body]


def _refuse(start: Start, fault: Fault, action: str) -> Iterable[bytes]:
    message = escape(f"{action} was spoilt by the test")
    # EC2's own form is the second one.
    text = (
        f'<ErrorResponse xmlns="{HEALTH_NAMESPACE}"><Error><Type>Sender</Type>'
        f"<Code>{fault.code}</Code><Message>{message}</Message></Error><Errors><Error>"
        f"<Code>{fault.code}</Code><Message>{message}</Message></Error></Errors></ErrorResponse>"
    )
    return answer_xml(start, f"{fault.status} -", text)


@contextmanager
def served(moto: MotoT) -> Iterator[MotoT]:
    """Run the server in a thread, on a port of 127.0.0.1 that was free."""
    server = make_server("127.0.0.1", 0, moto, threaded=True, request_handler=_Quiet)
    moto.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield moto
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def moto_server() -> Iterator[Moto]:
    """Run moto's server with what it leaves out of load balancers."""
    with served(Moto()) as moto:
        yield moto


@dataclass
class Stage:
    """A load balancer with a listener and target groups, all of them healthy."""

    moto: Moto
    listener: str
    groups: Mapping[str, str]
    name: str

    def route(self, mode: str = "", path: str = "/") -> str:
        """Who answers a client: "v1", "v1 90, v2 10" or a status."""
        routed = self.moto.routed(self.listener, mode, path)
        if isinstance(routed, int):
            return str(routed)
        shares = {name.split("-")[0]: share for name, share in sorted(routed.items())}
        if len(shares) == 1:
            return next(iter(shares))
        return ", ".join(f"{name} {share}" for name, share in shares.items())

    def routes(self) -> tuple[str, ...]:
        """Who answers those who ask for blue, for green, and for nothing."""
        return tuple(self.route(mode) for mode in ("blue", "green", ""))


_numbers = iter(range(1, 1_000_000))


def stage(moto: Moto, *, foreign: Sequence[int] = (), https: bool = False) -> Stage:
    """Make one, with names of its own, whose listener forwards to v1 of v1, v2 and v3."""
    number = next(_numbers)
    elb, ec2 = moto.client("elbv2"), moto.client("ec2")
    subnets = ec2.describe_subnets()["Subnets"]
    name = f"lb{number}"
    balancer = elb.create_load_balancer(
        Name=name, Subnets=[item["SubnetId"] for item in subnets[:2]]
    )["LoadBalancers"][0]["LoadBalancerArn"]
    groups = {}
    for version in ("v1", "v2", "v3"):
        arn = elb.create_target_group(
            Name=f"{version}-{number}",
            Protocol="HTTP",
            Port=80,
            VpcId=subnets[0]["VpcId"],
            TargetType="ip",
        )["TargetGroups"][0]["TargetGroupArn"]
        groups[version] = arn
        elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": f"10.0.0.{len(groups)}"}])
    options: dict[str, Any] = {"Port": 80, "Protocol": "HTTP"}
    if https:
        certificate = moto.client("acm").request_certificate(DomainName="api.example.org")
        options = {
            "Port": 443,
            "Protocol": "HTTPS",
            "SslPolicy": "ELBSecurityPolicy-TLS13-1-2-2021-06",
            "Certificates": [{"CertificateArn": certificate["CertificateArn"]}],
        }
    listener = elb.create_listener(
        LoadBalancerArn=balancer,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": groups["v1"]}],
        **options,
    )["Listeners"][0]["ListenerArn"]
    for priority in foreign:
        elb.create_rule(
            ListenerArn=listener,
            Priority=priority,
            Conditions=[{"Field": "path-pattern", "Values": [f"/foreign/{priority}"]}],
            Actions=[{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "418"}}],
        )
    return Stage(moto, listener, groups, name)
