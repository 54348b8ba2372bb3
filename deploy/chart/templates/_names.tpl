{{/* What everything is called: the release's name where it says "slipway" already. */}}
{{- define "slipway.name" -}}
{{- if contains "slipway" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-slipway" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* Of what belongs to the whole cluster: two releases of one name may be in two namespaces. */}}
{{- define "slipway.clusterName" -}}
{{ printf "%s-%s" .Release.Namespace (include "slipway.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/* The chosen labels of a component; a list of the context and the component's name. */}}
{{- define "slipway.chosen" -}}
app.kubernetes.io/name: slipway
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
{{- with index . 1 }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{- define "slipway.labels" -}}
{{ include "slipway.chosen" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version }}
{{- end }}

{{/* Metadata of a namespaced object; a list of the context, the component and the name's ending. */}}
{{- define "slipway.meta" -}}
name: {{ include "slipway.name" (index . 0) }}{{ with index . 2 }}-{{ . }}{{ end }}
namespace: {{ (index . 0).Release.Namespace }}
labels: {{- include "slipway.labels" . | nindent 2 }}
{{- end }}

{{/* The host of the portal; workspaces are its direct sub-domains. */}}
{{- define "slipway.domain" -}}
{{ (urlParse .Values.portalUrl).host | regexFind "^[^:]+" }}
{{- end }}

{{/* Tells the workspaces of this release from those of another in the same cluster. */}}
{{- define "slipway.instance" -}}
{{ .Values.workspaces.instance | default (printf "%s-%s" .Release.Namespace .Release.Name | trunc 63 | trimSuffix "-") }}
{{- end }}

{{- define "slipway.image" -}}
{{ .Values.image.repository }}{{ if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{/* An address to listen on, with a port; a list of the context and the port. */}}
{{- define "slipway.listen" -}}
{{ $host := (index . 0).Values.listenAddress }}{{ if contains ":" $host }}[{{ $host }}]{{ else }}{{ $host }}{{ end }}:{{ index . 1 }}
{{- end }}

{{- define "slipway.secretName" -}}
{{ .Values.secrets.existingSecret | default (printf "%s-secrets" (include "slipway.name" .)) }}
{{- end }}

{{/* Where agents report. Without name service in workspaces it has to be an address. */}}
{{- define "slipway.platformUrl" -}}
http://{{ .Values.gateway.agentsClusterIP | default (printf "%s-gateway-agents.%s.svc" (include "slipway.name" .) .Release.Namespace) }}:7400
{{- end }}

{{/* Not empty where the dev cluster is the one that Slipway runs in, with the accounts of its pods. */}}
{{- define "slipway.dev.here" -}}
{{- with .Values.devCluster }}{{ if and .options (not (and .existingSecret .key)) }}here{{ end }}{{ end }}
{{- end }}

{{/* What cannot be right, told before anything is changed in the cluster. */}}
{{- define "slipway.check" -}}
{{- if and .Values.trial.enabled (or .Values.database.existingSecret .Values.redis.existingSecret) }}
{{- fail "trial.enabled brings a database and a Redis of its own: leave database.existingSecret and redis.existingSecret empty, or turn the trial off" }}
{{- end }}
{{- if and (not .Values.trial.enabled) (not (and .Values.database.existingSecret .Values.redis.existingSecret)) }}
{{- fail "name the Secrets with the addresses of PostgreSQL and Redis in database.existingSecret and redis.existingSecret; or, to try Slipway out, set trial.enabled=true" }}
{{- end }}
{{- if and (eq .Values.workspaces.layout "shared") (not .Values.workspaces.namespace) }}
{{- fail "workspaces.layout=shared needs workspaces.namespace: an existing namespace for all workspaces" }}
{{- end }}
{{- if and (eq .Values.workspaces.layout "shared") (eq .Values.workspaces.namespace .Release.Namespace) }}
{{- fail "workspaces.namespace must not be the release's own: workspaces would stand among the platform's Secrets" }}
{{- end }}
{{- if and (eq .Values.workspaces.layout "own") .Values.workspaces.namespace }}
{{- fail "workspaces.namespace belongs to workspaces.layout=shared, and to no other" }}
{{- end }}
{{- if and (eq .Values.workspaces.egress "none") (not .Values.gateway.agentsClusterIP) }}
{{- fail "workspaces.egress=none closes name service too: set gateway.agentsClusterIP to a free address of the cluster's Services, where agents report" }}
{{- end }}
{{- if and .Values.backup.existingSecret (not .Values.workspaces.backup) }}
{{- fail "backup.existingSecret is for the registry of workspaces.backup: set workspaces.backup.repository, too" }}
{{- end }}
{{- if and .Values.backup.existingSecret (not .Values.backup.key) (not .Values.backup.authorityKey) }}
{{- fail "backup.existingSecret needs the key of its credentials, backup.key, or of its certificates, backup.authorityKey" }}
{{- end }}
{{- if and .Values.devCluster.existingSecret (not .Values.devCluster.options) }}
{{- fail "devCluster.existingSecret is for a dev cluster: set devCluster.options.server, too" }}
{{- end }}
{{- if and (include "slipway.dev.here" .) (ne .Values.workspaces.layout "own") }}
{{- fail "the dev cluster takes rights in all namespaces: with workspaces.layout=shared give a kubeconfig for it, in devCluster.existingSecret" }}
{{- end }}
{{- if and (include "slipway.dev.here" .) (not .Values.admissionPolicy.enabled) }}
{{- fail "with its own cluster as the dev cluster Slipway may make tokens of any account but for admission policies: leave admissionPolicy.enabled on, or give a kubeconfig in devCluster.existingSecret" }}
{{- end }}
{{- if and .Values.ingress.enabled .Values.httpRoute.enabled }}
{{- fail "choose one of ingress.enabled and httpRoute.enabled" }}
{{- end }}
{{- end }}
