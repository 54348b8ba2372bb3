{{/* The class of the platform's pods: a policy cannot be changed in a class that is there, so each has its own name. */}}
{{- define "slipway.platformPriority" -}}
{{ include "slipway.clusterName" . }}-platform{{ if not .Values.priorities.preempt }}-nonpreempting{{ end }}
{{- end }}

{{/* What all pods share. A list of the context, the component, and whether it talks to the API server. */}}
{{- define "slipway.pod" -}}
{{- $root := index . 0 }}
serviceAccountName: {{ include "slipway.name" $root }}-{{ index . 1 }}
automountServiceAccountToken: {{ index . 2 }}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- if and $root.Values.priorities.create (eq $root.Values.workspaces.layout "own") }}
priorityClassName: {{ include "slipway.platformPriority" $root }}
{{- else if $root.Values.priorities.platform }}
priorityClassName: {{ $root.Values.priorities.platform }}
{{- end }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.scheduling.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.scheduling.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.scheduling.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Replicas on different nodes, and in different zones, where that can be had. */}}
{{- define "slipway.spread" -}}
topologySpreadConstraints:
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "slipway.chosen" $ | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end }}

{{/* A pod template's metadata; a list of the context and the component. */}}
{{- define "slipway.podMeta" -}}
{{- $root := index . 0 }}
labels:
  {{- include "slipway.labels" . | nindent 2 }}
  {{- with $root.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  checksum/settings: {{ include (print $root.Template.BasePath "/settings.yaml") $root | sha256sum }}
  {{- with $root.Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "slipway.confined" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* A container of the platform's image; its name is the component's. A list of the context and the component. */}}
{{- define "slipway.container" -}}
{{- $root := index . 0 }}
image: {{ include "slipway.image" $root | quote }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
{{ include "slipway.confined" . }}
{{- end }}

{{/* The settings, secrets as files where they can be. */}}
{{- define "slipway.settings" -}}
envFrom:
  - configMapRef: {name: {{ include "slipway.name" . }}-settings}
env:
  - name: POD_IP
    valueFrom: {fieldRef: {fieldPath: status.podIP}}
  # Prometheus asks a pod by its address.
  - name: SLIPWAY_WEB_HOSTS
    value: "$(POD_IP),{{ include "slipway.name" . }}-web"
  - name: DATABASE_URL
    valueFrom: {secretKeyRef: {{ include "slipway.address" (list . "database") }}}
  - name: REDIS_URL
    valueFrom: {secretKeyRef: {{ include "slipway.address" (list . "redis") }}}
{{- end }}

{{- define "slipway.mounts" -}}
volumeMounts:
  - {name: settings, mountPath: /etc/slipway, readOnly: true}
  - {name: secrets, mountPath: /run/secrets/slipway, readOnly: true}
  - {name: home, mountPath: /var/lib/slipway, subPath: home}
  - {name: home, mountPath: /var/lib/slipway/run, subPath: run}
  - {name: home, mountPath: /var/lib/slipway/static, subPath: static}
  - {name: home, mountPath: /var/lib/slipway/metrics, subPath: metrics}
  - {name: home, mountPath: /tmp, subPath: tmp}
{{- end }}

{{/* Nothing in the home lasts: what must is in the database, and the secrets come from the Secret. */}}
{{- define "slipway.volumes" -}}
volumes:
  - name: settings
    configMap:
      name: {{ include "slipway.name" . }}-settings
      items:
        - {key: workspaces.yaml, path: workspaces.yaml}
        {{- if .Values.devCluster.options }}
        - {key: dev-cluster.yaml, path: dev-cluster.yaml}
        {{- end }}
  - name: secrets
    projected:
      defaultMode: 0440
      sources:
        - secret:
            name: {{ include "slipway.secretName" . }}
            items:
              - {key: {{ .Values.secrets.secretKey }}, path: secret-key}
              - {key: {{ .Values.secrets.internalSecret }}, path: internal-secret}
        {{- if .Values.github.existingSecret }}
        - secret:
            name: {{ .Values.github.existingSecret }}
            items: [{key: {{ .Values.github.key }}, path: github-token}]
        {{- end }}
  - name: home
    emptyDir: {sizeLimit: 1Gi}
{{- end }}

{{/* The dev cluster, for those who make access to it and end it: a variable, a mount, and its volume. */}}
{{- define "slipway.dev.setting" -}}
{{- if .Values.devCluster.options }}
- {name: SLIPWAY_DEV_CLUSTER_OPTIONS, value: /etc/slipway/dev-cluster.yaml}
{{- end }}
{{- end }}

{{- define "slipway.dev.mount" -}}
{{- if .Values.devCluster.existingSecret }}
- {name: dev-cluster, mountPath: /run/secrets/dev-cluster, readOnly: true}
{{- end }}
{{- end }}

{{- define "slipway.dev.volume" -}}
{{- with .Values.devCluster }}
{{- if .existingSecret }}
- name: dev-cluster
  secret:
    secretName: {{ .existingSecret }}
    defaultMode: 0440
    items:
      {{- with .key }}
      - {key: {{ . }}, path: kubeconfig}
      {{- end }}
      {{- with .authorityKey }}
      - {key: {{ . }}, path: ca.crt}
      {{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* A start waits until the database has this version's tables; the old version serves meanwhile. */}}
{{- define "slipway.wait" -}}
initContainers:
  - name: database
    {{- include "slipway.container" . | nindent 4 }}
    command: [python, manage.py, prepare, --only-wait]
    {{- include "slipway.settings" (index . 0) | nindent 4 }}
    resources: {{- toYaml (index . 0).Values.migration.resources | nindent 6 }}
    {{- include "slipway.mounts" (index . 0) | nindent 4 }}
{{- end }}

{{/* Health by HTTP on a named port; a list of the port's name, liveness' path and readiness' path. */}}
{{- define "slipway.probes" -}}
{{- $host := "" }}{{ if gt (len .) 3 }}{{ $host = index . 3 }}{{ end }}
startupProbe:
  httpGet: {path: {{ index . 1 }}, port: {{ index . 0 }}{{ with $host }}, httpHeaders: [{name: Host, value: {{ . }}}]{{ end }}}
  periodSeconds: 2
  failureThreshold: 60
  timeoutSeconds: 5
livenessProbe:
  httpGet: {path: {{ index . 1 }}, port: {{ index . 0 }}{{ with $host }}, httpHeaders: [{name: Host, value: {{ . }}}]{{ end }}}
  periodSeconds: 15
  failureThreshold: 4
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: {{ index . 2 }}, port: {{ index . 0 }}{{ with $host }}, httpHeaders: [{name: Host, value: {{ . }}}]{{ end }}}
  periodSeconds: 5
  failureThreshold: 2
  timeoutSeconds: 5
{{- end }}

{{/* Where the address of the database or of Redis stands, its password in it; a list of the context and which. */}}
{{- define "slipway.address" -}}
{{- $given := index (index . 0).Values (index . 1) }}
{{- if $given.existingSecret }}{name: {{ $given.existingSecret }}, key: {{ $given.key }}}
{{- else }}{name: {{ include "slipway.name" (index . 0) }}-trial, key: {{ index . 1 }}-url}{{ end }}
{{- end }}
