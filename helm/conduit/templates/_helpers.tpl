{{/* Names are fixed: there is one Conduit in a cluster, and its names are promises to users. */}}

{{- define "conduit.labels" -}}
{{ include "conduit.selector" . }}
app.kubernetes.io/part-of: conduit
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "conduit.selector" -}}
app.kubernetes.io/name: conduit-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Image of this name: (dict "root" . "name" "conduit-operator"). */}}
{{- define "conduit.image" -}}
{{ .root.Values.image.registry }}/{{ .name }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- define "conduit.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "conduit.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Resources of a container; an empty limit is none. */}}
{{- define "conduit.resources" -}}
requests:
  cpu: {{ .requests.cpu | quote }}
  memory: {{ .requests.memory | quote }}
limits:
  {{- with .limits.cpu }}
  cpu: {{ . | quote }}
  {{- end }}
  memory: {{ .limits.memory | quote }}
{{- end }}

{{/* Namespaces whose pods are never sent to the webhooks, so that neither the cluster nor Conduit waits for itself. */}}
{{- define "conduit.otherNamespaces" -}}
- key: kubernetes.io/metadata.name
  operator: NotIn
  values: [kube-system, {{ .Release.Namespace | quote }}]
{{- end }}
