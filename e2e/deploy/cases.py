"""The cases that `run.py` counts: one function each, or one for each set of values.

`render` (Helm's and Kustomize's engines), the linters and Kubernetes' schemas are in the environment that run.py makes. What
a schema cannot know is asked of the server itself: `outspoke config check` on the rendered configuration and environment.
"""

import copy
import functools
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback

import jsonschema
import kubernetes_validate
import yaml

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CHART = ROOT / "deploy/helm/outspoke"
OVERLAYS = ROOT / "deploy/kubernetes/overlays"
# The oldest that the chart is for, and the newest whose schema there is.
KUBERNETES = ("1.30", "1.37")
SETS = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))
# What a Secret would have, by the settings' names.
SECRETS = {
    "cluster.secret": "0123456789abcdef0123456789abcdef",
    "store.postgresql.url": "postgresql://chat:s3cr3t-word@postgres/chat",
    "store.redis.url": "redis://chat:s3cr3t-word@redis:6379/0",
    "cluster.redis.url": "redis://chat:s3cr3t-word@redis:6379",
    "api.keys": "s3cr3t-word-0123456789-0123456789",
}
# Custom resources that the chart makes.
CUSTOM = ("servicemonitors", "prometheusrules", "httproutes")
CASES = []


class Loader(yaml.SafeLoader):
    """YAML 1.1 without the meaning of a lone `=`, which definitions have among the values of an enum."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: loader.construct_scalar(node))


def case(function):
    CASES.append((function.__name__, function))
    return function


def case_for(values):
    """One case for each of `values`."""
    def declare(function):
        CASES.extend((f"{function.__name__}[{value}]", functools.partial(function, value)) for value in values)
        return function
    return declare


# Rendering.

def run(*command, stdin=None, env=None):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, input=stdin,
                          cwd=ROOT, env=env)


def succeeds(*command, **more):
    done = run(*command, **more)
    assert done.returncode == 0, f"{pathlib.Path(str(command[0])).name}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def values_of(name):
    return yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text())


def try_chart(values):
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(values, file)
        file.flush()
        return run(os.environ["RENDER"], "chart", CHART, file.name)


@functools.cache
def rendered(source):
    """The objects of a set of values, or of an overlay."""
    kind, _, name = source.partition("/")
    if kind == "chart":
        text = succeeds(os.environ["RENDER"], "chart", CHART, CHART / "ci" / f"{name}-values.yaml")
    else:
        text = succeeds(os.environ["RENDER"], "kustomize", OVERLAYS / name)
    return [document for document in yaml.safe_load_all(text) if document]


SOURCES = [f"chart/{name}" for name in SETS] + ["kustomize/single", "kustomize/cluster"]


def of_kind(source, kind):
    return [document for document in rendered(source) if document["kind"] == kind]


def the(source, kind):
    found = of_kind(source, kind)
    assert len(found) == 1, f"{len(found)} objects of kind {kind}"
    return found[0]


def pods(source):
    for document in rendered(source):
        if document["kind"] in ("StatefulSet", "Deployment", "DaemonSet", "Job"):
            yield document["spec"]["template"]
        elif document["kind"] == "Pod":
            yield document


def server(source):
    return the(source, "StatefulSet")["spec"]["template"]["spec"]["containers"][0]


# Schemas.

@functools.cache
def custom():
    """The schemas of custom resources by (apiVersion, kind), with unknown fields refused."""
    found = {}
    for path in pathlib.Path(os.environ["CRDS"]).glob("*.yaml"):
        if not path.stem.endswith(CUSTOM):
            continue
        for crd in yaml.load_all(path.read_text(), Loader=Loader):
            if not crd or crd.get("kind") != "CustomResourceDefinition":
                continue
            spec = crd["spec"]
            for version in spec["versions"]:
                schema = strict(version["schema"]["openAPIV3Schema"])
                # Any metadata that Kubernetes has.
                schema["properties"]["metadata"] = {"type": "object"}
                found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return found


def strict(schema):
    """`schema` as JSON Schema: OpenAPI's `nullable` and Kubernetes' own words translated, unknown properties refused."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: strict(value) for key, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        result.pop("type", None)
    elif "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields") and schema.get("type") == "object":
        result.setdefault("additionalProperties", False)
    if result.pop("nullable", False) is True and "type" in result:
        result["type"] = [result["type"], "null"]
    return result


@case_for(SOURCES)
def objects_are_valid_for_the_oldest_and_the_newest_kubernetes(source):
    assert rendered(source)
    for document in rendered(source):
        schema = custom().get((document["apiVersion"], document["kind"]))
        if schema:
            jsonschema.Draft202012Validator(schema).validate(document)
            continue
        for version in KUBERNETES:
            kubernetes_validate.validate(document, version, strict=True)


@case
def validation_refuses_a_field_that_kubernetes_does_not_have():
    for kind, field in (("StatefulSet", "replica"), ("ServiceMonitor", "endpoint"), ("HTTPRoute", "host")):
        document = copy.deepcopy(the("chart/cluster", kind))
        document["spec"][field] = 1
        try:
            schema = custom().get((document["apiVersion"], kind))
            if schema:
                jsonschema.Draft202012Validator(schema).validate(document)
            else:
                kubernetes_validate.validate(document, KUBERNETES[0], strict=True)
        except (jsonschema.ValidationError, kubernetes_validate.ValidationError):
            continue
        raise AssertionError(f"{kind}.spec.{field} was accepted")


# What belongs together.

@case_for(SOURCES)
def names_are_unique_and_references_lead_somewhere(source):
    names = [(document["kind"], document["metadata"]["name"]) for document in rendered(source)]
    assert len(names) == len(set(names)), names
    services = {document["metadata"]["name"]: document for document in of_kind(source, "Service")}
    stateful = the(source, "StatefulSet")
    assert stateful["spec"]["serviceName"] in services
    labels = stateful["spec"]["template"]["metadata"]["labels"]
    ports = {port["name"] for port in server(source)["ports"]}
    # Without a selector a policy would be for every pod of the namespace.
    selectors = [service["spec"]["selector"] for service in services.values()]
    selectors += [policy["spec"]["podSelector"]["matchLabels"] for policy in of_kind(source, "NetworkPolicy")]
    selectors += [budget["spec"]["selector"]["matchLabels"] for budget in of_kind(source, "PodDisruptionBudget")]
    for selector in selectors:
        assert selector and selector.items() <= labels.items(), (selector, labels)
    for service in services.values():
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for policy in of_kind(source, "NetworkPolicy"):
        assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} <= ports
    for monitor in of_kind(source, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        scraped = [service for service in services.values() if wanted <= service["metadata"]["labels"].items()]
        assert len(scraped) == 1, "a pod would be scraped twice, or not at all"
        assert monitor["spec"]["endpoints"][0]["port"] in {port["name"] for port in scraped[0]["spec"]["ports"]}
    volumes = {volume["name"]: volume for volume in stateful["spec"]["template"]["spec"]["volumes"]}
    claimed = {claim["metadata"]["name"] for claim in stateful["spec"].get("volumeClaimTemplates", [])}
    assert {mount["name"] for mount in server(source)["volumeMounts"]} == set(volumes) | claimed
    for volume in volumes.values():
        if "configMap" in volume:
            assert ("ConfigMap", volume["configMap"]["name"]) in names
    for scaler in of_kind(source, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) in names
        assert "replicas" not in stateful["spec"], "the scaler and every upgrade would fight over the number"
    for account in {pod["spec"].get("serviceAccountName") for pod in pods(source)} - {None}:
        assert ("ServiceAccount", account) in names


@case_for(SOURCES)
def pods_meet_the_restricted_pod_security_standard(source):
    for pod in pods(source):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True and spec["securityContext"]["runAsUser"] != 0
        assert spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
        assert spec["automountServiceAccountToken"] is False
        assert not any(spec.get(word) for word in ("hostNetwork", "hostPID", "hostIPC"))
        allowed = {"configMap", "secret", "emptyDir", "persistentVolumeClaim"}
        assert all(set(volume) - {"name"} <= allowed for volume in spec.get("volumes", []))
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False and context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"] and "cpu" not in container["resources"]["limits"]


@case_for(SOURCES)
def a_pod_is_not_killed_before_its_clients_are_told(source):
    pod = the(source, "StatefulSet")["spec"]["template"]["spec"]
    pause = server(source)["lifecycle"]["preStop"]["sleep"]["seconds"]
    timeout = configuration(source)["server"]["shutdown_timeout"]
    seconds = int(re.fullmatch(r"(\d+)s", timeout).group(1))
    probe = server(source)["readinessProbe"]
    assert pause > probe["periodSeconds"] * probe["failureThreshold"], "balancers would hear too late"
    assert pod["terminationGracePeriodSeconds"] >= pause + seconds + 5


# The server's own word.

def configuration(source):
    return yaml.safe_load(config_text(source))


def config_text(source):
    maps = [found for found in of_kind(source, "ConfigMap") if "config.yaml" in found["data"]]
    assert len(maps) == 1
    return maps[0]["data"]["config.yaml"]


def environment(container):
    result = {}
    for variable in container.get("env", []):
        reference = variable.get("valueFrom", {})
        if "secretKeyRef" in reference:
            result[variable["name"]] = SECRETS[reference["secretKeyRef"]["key"]]
        else:
            result[variable["name"]] = variable.get("value", "outspoke-0")
    return result


def check(text, variables, *flags):
    """`outspoke config check`, with files of the pod in a folder of ours."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "config.yaml"
        path.write_text(text)
        (pathlib.Path(folder) / "jwt.key").write_text("0123456789abcdef0123456789abcdef")
        path.write_text(text.replace("/data/jwt.key", f"{folder}/jwt.key"))
        keep = {name: value for name, value in os.environ.items() if name in ("PATH", "LLVM_PROFILE_FILE")}
        return run(os.environ["OUTSPOKE_BINARY"], "config", "check", path, *flags, env=keep | variables)


@case_for(SOURCES)
def the_server_accepts_its_configuration_and_environment(source):
    done = check(config_text(source), environment(server(source)))
    assert done.returncode == 0, done.stdout + done.stderr


@case
def the_server_refuses_a_setting_that_it_does_not_have():
    done = check(config_text("chart/single") + "\nserver2: {addr: 1}\n", {})
    assert done.returncode != 0
    done = check(config_text("chart/single"), {"OUTSPOKE_SERVER__ADR": ":1"})
    assert done.returncode != 0


@case_for(SOURCES)
def secrets_are_in_no_object_but_secrets(source):
    for document in rendered(source):
        if document["kind"] != "Secret":
            text = json.dumps(document)
            assert "only-to-try-it-out" not in text and "s3cr3t-word" not in text


@case
def a_chart_with_its_settings_in_a_secret_sets_its_own_as_flags():
    values = values_of("single") | {"existingConfigSecret": "whole", "config": {}, "prometheusRule": {"enabled": False},
                                    "dashboard": {"enabled": False}}
    done = try_chart(values)
    assert done.returncode == 0, done.stderr
    documents = [document for document in yaml.safe_load_all(done.stdout) if document]
    container = next(one for one in documents if one["kind"] == "StatefulSet")["spec"]["template"]["spec"]["containers"][0]
    flags = [flag for flag in container["args"] if flag.startswith("--set=")]
    assert "--set=server.addr=:8080" in flags and len(flags) >= 5
    assert not any(document["kind"] == "ConfigMap" for document in documents)
    checked = check("", environment(container), *flags)
    assert checked.returncode == 0, checked.stdout + checked.stderr


# Values that are wrong.

def with_value(base, path, value):
    values = copy.deepcopy(values_of(base))
    inner = values
    *folders, last = path.split("/")
    for folder in folders:
        inner = inner.setdefault(folder, {})
    inner[last] = value
    return values


WRONG = {
    # path: (set of values, value, what the refusal says)
    "replica": ("single", 2, "replica"),
    "replicas": ("single", 2, "maximum"),
    "mode": ("single", "many", "mode"),
    "autoscaling/enabled": ("single", True, "autoscaling"),
    "autoscaling/connections": ("cluster", -1, "connections"),
    "service/port": ("single", 70000, "port"),
    "service/type": ("single", "ExternalName", "type"),
    "image/digest": ("single", "latest", "digest"),
    "image/repository": ("single", "", "repository"),
    "secrets/settings": ("single", ["not a setting"], "settings"),
    "config/cluster/secret": ("cluster", "word", "secret"),
    "config/store/postgresql": ("cluster", {"url": "postgresql://a:b@c/d"}, "url"),
    "config/api": ("single", {"keys": ["plain"]}, "keys"),
    "config/api/scoped_keys": ("single", [{"name": "a", "key": "plain"}], "key"),
    "config/auth/hook": ("single", {"secret": "0123456789abcdef"}, "secret"),
    "config/auth/jwt": ("single", {"secret": "0123456789abcdef"}, "secret"),
    "config/auth/jwt/keys": ("single", [{"algorithm": "HS256", "key": "0123456789abcdef"}], "key"),
    "config/files/link_key": ("single", "0123456789abcdef", "link_key"),
    "config/cluster/etcd": ("cluster", {"password": "word"}, "password"),
    "config/cluster/nats": ("cluster", {"url": "nats://a:b@c"}, "url"),
    "config/cluster/redis": ("cluster", {"url": "redis://:b@c"}, "url"),
    "config/server": ("single", {"addr": ":80"}, "addr"),
    "config/data": ("single", {"dir": "/tmp"}, "dir"),
    "config/store/backend": ("cluster", "embedded", "a store that the servers share"),
    "secrets": ("cluster", {"existing": "a", "settings": []}, "cluster.secret"),
    "secrets/existing": ("single", "", "secrets.existing"),
    "secrets/values": ("single", {"api.keys": "a"}, "not both"),
    "persistence/size": ("single", "much", "size"),
    "persistence/enabled": ("cluster", True, "ReadWriteMany"),
    "gateway/parentRefs": ("cluster", [], "parentRefs"),
    "shutdown/timeoutSeconds": ("single", 0, "timeoutSeconds"),
    "networkPolicy/from": ("single", "all", "from"),
    "resources/limit": ("single", {}, "limit"),
}


@case_for(WRONG)
def a_wrong_value_is_refused_with_words(path):
    base, value, said = WRONG[path]
    done = try_chart(with_value(base, path, value))
    assert done.returncode != 0, "rendered all the same"
    assert said in done.stderr, done.stderr


@case
def every_value_has_a_default_and_a_description():
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(values) | {"global"} == set(schema["properties"])
    for name, part in schema["properties"].items():
        assert part.get("description"), name
        # What the server has is described by the server.
        if part.get("type") == "object" and part.get("properties") and name != "config":
            for key, inner in part["properties"].items():
                assert inner.get("description"), f"{name}.{key}"
                assert key in values[name] or name == "resources", f"{name}.{key} has no default"


# Linters.

@case_for(SETS)
def helm_lint_is_content(name):
    succeeds(os.environ["RENDER"], "lint", CHART, CHART / "ci" / f"{name}-values.yaml")


@case
def yamllint_is_content():
    listed = succeeds("git", "ls-files", "--cached", "--others", "--exclude-standard", "deploy", ".github",
                      "compose.yaml")
    files = [file for file in listed.splitlines()
             if file.endswith((".yaml", ".yml")) and "/templates/" not in file
             # Some are looked at by the tools that they are for.
             and not file.startswith(("deploy/envoy", "deploy/prometheus", "deploy/helm/outspoke/files"))]
    assert len(files) > 10
    succeeds("yamllint", "--strict", "--config-file", HERE / "yamllint.yaml", *files)


@case
def the_schema_of_values_is_a_schema():
    succeeds("check-jsonschema", "--check-metaschema", CHART / "values.schema.json")


@case_for(["compose.yaml", "deploy/compose/single.yaml"])
def compose_file_is_valid(path):
    succeeds("check-jsonschema", "--builtin-schema", "vendor.compose-spec", path)


@case
def settings_of_the_single_hub_exist_and_its_mounts_are_there():
    file = ROOT / "deploy/compose/single.yaml"
    services = yaml.safe_load(file.read_text())["services"]
    done = check("{}", services["hub"]["environment"])
    assert done.returncode == 0, done.stderr
    mounts = [mount.split(":")[0] for service in services.values() for mount in service["volumes"]]
    assert all((file.parent / mount).exists() for mount in mounts if mount.startswith("."))


@case
def settings_of_the_image_exist():
    done = check("{}", dict(re.findall(r"^ENV (\w+)=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)))
    assert done.returncode == 0, done.stderr


@case
def workflows_are_valid():
    succeeds("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *(ROOT / ".github/workflows").glob("*.yml"))


@case
def actionlint_is_content():
    succeeds("actionlint", "-shellcheck=", "-pyflakes=", *(ROOT / ".github/workflows").glob("*.yml"))


@case
def hadolint_is_content():
    succeeds("hadolint", "Dockerfile")


# The image.

def last_stage():
    """The instructions of the Dockerfile's last stage, which is what an image has."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = text[text.rindex("\nFROM "):].splitlines()
    return dict(line.split(None, 1) for line in lines if re.match("[A-Z]", line))


def libraries(binary):
    """What a binary that is not static needs beside it: the image's own is static and needs nothing."""
    return re.findall(r"(/\S+) \(0x", run("ldd", binary).stdout)


def image(root, user):
    """The files that the Dockerfile's first stage leaves in `/image`, around a binary that is built already."""
    binary = os.environ["OUTSPOKE_BINARY"]
    for folder in ("data", "dev", "proc"):
        (root / folder).mkdir(parents=True)
    shutil.copy(binary, root / "outspoke")
    for library in libraries(binary):
        (root / library[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, root / library[1:])
    if os.geteuid() == 0:
        os.chown(root / "data", *map(int, user.split(":")))
    return root


def inside(root, user, *command):
    """A command as the image's user, with only the image's files, of which none but the volume can be written to.

    Beside them there is what every runtime gives (the OCI's specification, "Default Devices" and "Default Filesystems"): a
    static binary asks `/dev/urandom`.
    """
    alone = ('mount --bind "$0" "$0" && mount --bind "$0/data" "$0/data" && mount --rbind /dev "$0/dev" && '
             'mount --rbind /proc "$0/proc" && mount -o remount,bind,ro "$0" && exec "$@"')
    if os.geteuid() == 0:
        return ["unshare", "--mount", "sh", "-c", alone, root, "chroot", "--groups=", f"--userspec={user}", root, *command]
    uid, gid = user.split(":")
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", alone, root,
            "unshare", "--user", f"--map-user={uid}", f"--map-group={gid}", f"--root={root}", *command]


@case
def the_image_serves_without_rights_from_files_that_are_read_only():
    stage = last_stage()
    assert (stage["FROM"], stage["COPY"], stage["VOLUME"]) == ("scratch", "--from=build /image/ /", "/data"), stage
    program, user = json.loads(stage["ENTRYPOINT"]), stage["USER"]
    health = json.loads(stage["HEALTHCHECK"].partition("CMD ")[2])
    with tempfile.TemporaryDirectory() as folder, open(f"{folder}/log", "w+", encoding="utf-8") as log:
        root = image(pathlib.Path(folder) / "root", user)
        files = sorted(root.rglob("*"))
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        environment = dict([stage["ENV"].split("=", 1)], PATH=os.environ["PATH"], OUTSPOKE_SERVER__ADDR=address)
        with_key = environment | {"OUTSPOKE_API__KEYS": SECRETS["api.keys"]}
        start = functools.partial(subprocess.Popen, stderr=log, text=True)
        assert run(*inside(root, user, *health), env=environment).returncode == 1, "nobody serves yet"
        server_of = start(inside(root, user, *program, *json.loads(stage["CMD"])), env=with_key, stdout=log)
        listener = None
        try:
            while run(*inside(root, user, *health), env=environment).returncode != 0:
                assert server_of.poll() is None, pathlib.Path(log.name).read_text(encoding="utf-8")
            status = pathlib.Path(f"/proc/{server_of.pid}/status").read_text(encoding="ascii")
            if os.geteuid() == 0:
                assert re.findall(r"^[UG]id:\t(\d+)", status, re.MULTILINE) == user.split(":"), status
            assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE), status
            # Without a key it listens over a WebSocket.
            listener = start(inside(root, user, *program, "tail", "lobby", "--count=1", "--raw"), env=environment,
                             stdout=subprocess.PIPE)
            succeeds(*inside(root, user, *program, "pub", "lobby", "hello"), env=with_key)
            assert listener.communicate(timeout=60)[0] == "hello\n"
            server_of.send_signal(getattr(signal, stage["STOPSIGNAL"]))
            assert server_of.wait(60) == 0, pathlib.Path(log.name).read_text(encoding="utf-8")
        finally:
            for process in filter(None, [server_of, listener]):
                process.kill()
                process.wait()
        assert [path for path in sorted(root.rglob("*")) if root / "data" not in path.parents] == files
        assert any((root / "data").iterdir()), "what is kept is kept in the volume"


# The unit.

UNIT = ROOT / "deploy/systemd/outspoke.service"
# Of 10; what is left is the network, which is what the server is for.
EXPOSURE_MAX = 2.0


def directive(name):
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)


@case
def systemd_understands_every_line_of_the_unit():
    with tempfile.TemporaryDirectory() as folder:
        copied = pathlib.Path(folder) / UNIT.name
        copied.write_text(UNIT.read_text().replace("/usr/bin/outspoke", os.environ["OUTSPOKE_BINARY"]))
        done = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", copied)
        said = [line for line in done.stderr.splitlines() if UNIT.name in line]
        assert done.returncode == 0 and not said, said


@case
def the_unit_leaves_the_server_few_rights():
    said = succeeds("systemd-analyze", "security", "--offline=true", UNIT)
    exposure = float(re.search(r"Overall exposure level for \S+: ([0-9.]+)", said).group(1))
    assert exposure <= EXPOSURE_MAX, exposure


@case
def the_unit_names_settings_that_exist_and_stops_after_the_server():
    variables = dict(line.split("=", 1) for line in directive("Environment"))
    done = check("{}", variables)
    assert done.returncode == 0, done.stderr
    timeout = re.search(r"shutdown_timeout: (\d+)s", succeeds(os.environ["OUTSPOKE_BINARY"], "config", "default"))
    assert int(directive("TimeoutStopSec")[0]) > int(timeout.group(1))


@case
def the_service_manager_hears_of_start_reload_life_and_end():
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{folder}/notify")
        manager.settimeout(60)
        server_of = subprocess.Popen(  # pylint: disable=consider-using-with
            [os.environ["OUTSPOKE_BINARY"], "serve", "--no-config", "--addr=127.0.0.1:0", f"--set=data.dir={folder}/data"],
            env={"NOTIFY_SOCKET": f"{folder}/notify", "WATCHDOG_USEC": "200000"}, stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, cwd=folder)
        try:
            heard = functools.partial(wait_for, manager)
            heard("READY=1")
            heard("WATCHDOG=1")
            heard("WATCHDOG=1")
            server_of.send_signal(signal.SIGHUP)
            heard("RELOADING=1")
            heard("READY=1")
            server_of.send_signal(signal.SIGTERM)
            heard("STOPPING=1")
            assert server_of.wait(60) == 0
        finally:
            server_of.kill()
            server_of.wait()


def wait_for(manager, line):
    while line not in manager.recv(1024).decode().splitlines():
        pass


# The package.

@case
def debian_package_installs_upgrades_and_purges_without_a_trace():
    with tempfile.TemporaryDirectory() as folder:
        package = succeeds("sh", ROOT / "deploy/debian/build.sh", os.environ["OUTSPOKE_BINARY"], folder,
                           env=os.environ | {"COMPRESSION": "none"}).strip()
        root = pathlib.Path(folder) / "root"
        (root / "var/lib/dpkg/updates").mkdir(parents=True)
        (root / "var/lib/dpkg/info").mkdir()
        (root / "var/lib/dpkg/status").touch()
        dpkg = functools.partial(succeeds, "dpkg", f"--root={root}", "--force-script-chrootless", "--force-depends",
                                 "--force-not-root", "--log=/dev/null")
        dpkg("--install", package)
        installed = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
        for path in ("usr/bin/outspoke", "lib/systemd/system/outspoke.service", "etc/outspoke/config.yaml",
                     "usr/share/man/man1/outspoke.1.gz", "usr/share/man/man1/outspoke-serve.1.gz",
                     "usr/share/bash-completion/completions/outspoke", "usr/share/doc/outspoke/copyright"):
            assert path in installed, path
        assert (root / "lib/systemd/system/outspoke.service").read_text() == UNIT.read_text()
        succeeds(root / "usr/bin/outspoke", "config", "check", root / "etc/outspoke/config.yaml", env={})
        settings = root / "etc/outspoke/config.yaml"
        settings.write_text("log: { level: warn }\n")
        (root / "var/lib/outspoke").mkdir()
        dpkg("--install", package)
        assert settings.read_text() == "log: { level: warn }\n", "an upgrade must not touch settings"
        dpkg("--remove", "outspoke")
        assert settings.exists() and (root / "var/lib/outspoke").exists()
        dpkg("--purge", "outspoke")
        left = [path for path in root.rglob("*") if path.is_file() and "var/lib/dpkg" not in str(path)]
        assert not left and not (root / "var/lib/outspoke").exists(), left


def main():
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    passed = failed = 0
    for name, function in CASES:
        if wanted not in name:
            continue
        try:
            function()
            passed += 1
        except Exception as error:  # pylint: disable=broad-except
            failed += 1
            print(f"FAILED {name}")
            if isinstance(error, AssertionError):
                print(f"  {error}")
            else:
                traceback.print_exc(limit=-2, file=sys.stdout)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
