{{- define "outspoke.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{/* Short enough for the longest suffix ("-headless") and a pod's number. */}}
{{- define "outspoke.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 48 | trimSuffix "-" -}}
{{- else if contains (include "outspoke.name" .) .Release.Name -}}
{{- .Release.Name | trunc 48 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "outspoke.name" .) | trunc 48 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "outspoke.selector" -}}
app.kubernetes.io/name: {{ include "outspoke.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "outspoke.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "outspoke.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: outspoke
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "outspoke.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "outspoke.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "outspoke.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end }}

{{- define "outspoke.secretName" -}}
{{- default (include "outspoke.fullname" .) .Values.secrets.existing -}}
{{- end }}

{{/* What the chart sets itself, by the settings' names; each is a flag where the file is not the chart's. */}}
{{- define "outspoke.own" -}}
server.addr: ":8080"
server.shutdown_timeout: {{ printf "%ds" (int .Values.shutdown.timeoutSeconds) }}
metrics.addr: ":9464"
data.dir: /data
cluster.enabled: {{ eq .Values.mode "cluster" }}
reload.watch: {{ ternary "5s" "0s" .Values.configReload }}
{{- with .Values.tls.secretName }}
tls.certificate: /etc/outspoke-tls/tls.crt
tls.key: /etc/outspoke-tls/tls.key
{{- end }}
{{- end }}

{{/* The configuration file: the values' settings and the chart's own. */}}
{{- define "outspoke.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- range $setting, $value := include "outspoke.own" . | fromYaml -}}
{{- $parts := splitn "." 2 $setting -}}
{{- $section := default dict (get $config $parts._0) -}}
{{- $_ := set $section $parts._1 $value -}}
{{- $_ := set $config $parts._0 $section -}}
{{- end -}}
{{- toYaml $config -}}
{{- end }}

{{/* What no schema can say, since it lies between values. */}}
{{- define "outspoke.validate" -}}
{{- if eq .Values.mode "cluster" -}}
{{- if and (not .Values.existingConfigSecret) (has (dig "store" "backend" "embedded" .Values.config) (list "embedded" "memory")) -}}
{{- fail "mode cluster needs a store that the servers share: set config.store.backend to postgresql, redis or dynamodb" -}}
{{- end -}}
{{- if not (or .Values.existingConfigSecret (has "cluster.secret" .Values.secrets.settings) (hasKey .Values.secrets.values "cluster.secret")) -}}
{{- fail "mode cluster needs the setting cluster.secret: put it into the Secret that secrets.existing names, and name it in secrets.settings" -}}
{{- end -}}
{{- if and .Values.persistence.enabled (not .Values.persistence.existingClaim) (not (has "ReadWriteMany" .Values.persistence.accessModes)) -}}
{{- fail "mode cluster keeps files on a volume that all pods share: set persistence.accessModes to [ReadWriteMany], name a persistence.existingClaim, or set persistence.enabled=false and config.files.enabled=false" -}}
{{- end -}}
{{- if and (not .Values.persistence.enabled) (not .Values.existingConfigSecret) (dig "files" "enabled" true .Values.config) -}}
{{- fail "without a volume files have no place: set config.files.enabled=false, or persistence.enabled=true" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.secrets.settings (not .Values.secrets.existing) -}}
{{- fail "secrets.settings are read from a Secret: name it in secrets.existing" -}}
{{- end -}}
{{- if and .Values.secrets.existing .Values.secrets.values -}}
{{- fail "either secrets.existing or secrets.values, not both" -}}
{{- end -}}
{{- if and .Values.gateway.enabled (not .Values.gateway.parentRefs) -}}
{{- fail "gateway.enabled needs gateway.parentRefs: the Gateway that the route belongs to" -}}
{{- end -}}
{{- end }}
