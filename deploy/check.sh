#!/usr/bin/env bash
# Checks the parts of deploy/ that need tools from PyPI and npm; tests/run checks the rest. Needs python3, npm and
# systemd-analyze. Installs the tools into target/deploy-check.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=target/deploy-check
mkdir -p "$tools"

[ -x "$tools/venv/bin/kubernetes-validate" ] || {
    python3 -m venv "$tools/venv"
    "$tools/venv/bin/pip" -q install kubernetes-validate compose-spec
}
[ -d "$tools/node_modules/js-yaml" ] || npm install --silent --ignore-scripts --prefix "$tools" \
    js-yaml @kubernetes-models/keda @kubernetes-models/prometheus-operator

echo "== Kubernetes' own kinds, without unknown fields"
"$tools/venv/bin/kubernetes-validate" --strict -k 1.34 deploy/kubernetes/{namespace,configmap,secret.example,deployment,service,networkpolicy,poddisruptionbudget}.yaml

echo "== ServiceMonitor, PrometheusRule, ScaledObject, TriggerAuthentication"
NODE_PATH="$tools/node_modules" node -e '
const fs = require("fs"), yaml = require("js-yaml");
const kinds = { ...require(require("path").resolve(process.env.NODE_PATH, "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor.js")), ...require(require("path").resolve(process.env.NODE_PATH, "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule.js")), ...require("@kubernetes-models/keda/keda.sh/v1alpha1") };
for (const file of process.argv.slice(1))
  for (const resource of yaml.loadAll(fs.readFileSync(file, "utf8"))) {
    new kinds[resource.kind](resource).validate();
    console.log(resource.kind, "is valid");
  }' deploy/kubernetes/servicemonitor.yaml deploy/kubernetes/prometheusrule.yaml deploy/kubernetes/scaledobject.yaml

echo "== Every manifest except the example secret is in the kustomization"
for file in deploy/kubernetes/*.yaml; do
    name=$(basename "$file")
    [ "$name" = kustomization.yaml ] || [ "$name" = secret.example.yaml ] || grep -q -- "- $name" deploy/kubernetes/kustomization.yaml || { echo "$name is missing"; exit 1; }
done

echo "== compose.yaml"
"$tools/venv/bin/python" -c '
import compose_spec
compose = compose_spec.PyCompose.from_yaml(open("deploy/compose.yaml").read())
compose.validate()
print("valid:", ", ".join(sorted(compose.service_names())) if callable(compose.service_names) else compose.service_names)'

echo "== systemd"
sed "s|/usr/local/bin/plu-onboard|/bin/true|" deploy/systemd/plu-onboard.service > "$tools/plu-onboard.service"
systemd-analyze verify --man=no "$tools/plu-onboard.service"
systemd-analyze security --offline=true --threshold=20 --no-pager "$tools/plu-onboard.service" | tail -1
