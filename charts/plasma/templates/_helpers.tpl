{{/* The image of a program: include "plasma.image" (dict "root" $ "name" "operator" "tag" .Values.operator.tag) */}}
{{- define "plasma.image" -}}
{{ .root.Values.image.registry }}/{{ .name }}:{{ .tag | default .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{/* Labels of everything: include "plasma.labels" (dict "root" $ "name" "operator") */}}
{{- define "plasma.labels" -}}
app.kubernetes.io/name: plasma-{{ .name }}
app.kubernetes.io/part-of: plasma
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{/* What selects a program's pods. */}}
{{- define "plasma.selector" -}}
app.kubernetes.io/name: plasma-{{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{/* Flags that every program has. */}}
{{- define "plasma.commonArgs" -}}
- --log-format={{ .Values.log.format }}
- --log-level={{ .Values.log.level }}
{{- end }}

{{/* Pods that may do nothing to their node. */}}
{{- define "plasma.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "plasma.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{/* Ports and probes of every program. */}}
{{- define "plasma.probes" -}}
ports: [{ name: metrics, containerPort: 9090 }]
{{ include "plasma.probesOnly" . }}
{{- end }}

{{/* The probes alone, of a program that has more ports. */}}
{{- define "plasma.probesOnly" -}}
livenessProbe: { httpGet: { path: /healthz, port: metrics }, periodSeconds: 10 }
readinessProbe: { httpGet: { path: /readyz, port: metrics }, periodSeconds: 2 }
{{- end }}

{{/* The chain's endpoint: the development chain's service, or what is set. */}}
{{- define "plasma.chainRpc" -}}
{{- if .Values.chain.dev.enabled -}}
http://plasma-dev-chain.{{ .Release.Namespace }}.svc:8545
{{- else -}}
{{ required "chain.rpc is needed: a JSON-RPC endpoint of the chain (or chain.dev.enabled for trying things out)" .Values.chain.rpc }}
{{- end -}}
{{- end }}

{{/* The contracts: on the development chain where its deployer's first three transactions put them. */}}
{{- define "plasma.contract" -}}
{{- if .Values.chain.dev.enabled -}}
0xe7f1725e7734ce288f8367e1bb143e90bb3f0512
{{- else -}}
{{ required "chain.contract is needed: the address of the Rental contract" .Values.chain.contract | lower }}
{{- end -}}
{{- end }}

{{- define "plasma.providers" -}}
{{- if .Values.chain.dev.enabled -}}
0x5fbdb2315678afecb367f032d93f642f64180aa3
{{- else -}}
{{ required "chain.providers is needed: the address of the Providers contract" .Values.chain.providers | lower }}
{{- end -}}
{{- end }}

{{/* Whether nodes' meters report to settlement: "true" or nothing. */}}
{{- define "plasma.meters" -}}
{{- if and .Values.settlement.enabled .Values.meter.enabled }}true{{ end -}}
{{- end }}

{{/* The Secrets with ca.crt, tls.crt and tls.key of the two sides of the meter's connection. */}}
{{- define "plasma.meterServerSecret" -}}
{{ .Values.meter.tls.existingServerSecret | default "plasma-meter-server-tls" }}
{{- end }}

{{- define "plasma.meterClientSecret" -}}
{{ .Values.meter.tls.existingClientSecret | default "plasma-meter-client-tls" }}
{{- end }}
