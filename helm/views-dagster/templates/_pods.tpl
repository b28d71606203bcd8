{{/* What every pod and container of the release has, whether a Deployment or the run launcher makes it. */}}

{{- define "views.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ int .Values.user }}
runAsGroup: {{ int .Values.user }}
fsGroup: {{ int .Values.user }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "views.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
privileged: false
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "views.fromSecret" -}}
{{- if .secretName }}
- name: {{ .variable }}
  valueFrom:
    secretKeyRef:
      name: {{ .secretName }}
      key: {{ .key }}
{{- end }}
{{- end -}}

{{- define "views.postgresEnv" -}}
{{- $secret := required "postgres.secretName: name the secret that holds the URL of Dagster's database under postgres.key" .Values.postgres.secretName -}}
{{- include "views.fromSecret" (dict "variable" "VIEWS_POSTGRES_URL" "secretName" $secret "key" .Values.postgres.key) }}
{{- end -}}

{{/* Of processes that load the project's code: the code location, runs and steps. */}}
{{- define "views.secretEnv" -}}
{{- include "views.postgresEnv" . }}
{{- with .Values.objectStore.credentials }}
{{- include "views.fromSecret" (dict "variable" "AWS_ACCESS_KEY_ID" "secretName" .secretName "key" .accessKeyIdKey) }}
{{- include "views.fromSecret" (dict "variable" "AWS_SECRET_ACCESS_KEY" "secretName" .secretName "key" .secretAccessKeyKey) }}
{{- end }}
{{- with .Values.mlflow.credentials }}
{{- include "views.fromSecret" (dict "variable" "MLFLOW_TRACKING_USERNAME" "secretName" .secretName "key" .usernameKey) }}
{{- include "views.fromSecret" (dict "variable" "MLFLOW_TRACKING_PASSWORD" "secretName" .secretName "key" .passwordKey) }}
{{- end }}
{{- include "views.fromSecret" (dict "variable" "VIEWS_STUDIES" "secretName" .Values.studies.secretName "key" .Values.studies.key) }}
{{- include "views.fromSecret" (dict "variable" "UCDP_API_TOKEN" "secretName" .Values.ucdp.secretName "key" .Values.ucdp.key) }}
{{- with .Values.notifications.webhook }}
{{- include "views.fromSecret" (dict "variable" "VIEWS_WEBHOOK_URL" "secretName" .secretName "key" .key) }}
{{- end }}
{{- with .Values.notifications.mail }}
{{- include "views.fromSecret" (dict "variable" "VIEWS_SMTP_USER" "secretName" .secretName "key" .userKey) }}
{{- include "views.fromSecret" (dict "variable" "VIEWS_SMTP_PASSWORD" "secretName" .secretName "key" .passwordKey) }}
{{- end }}
{{- range .Values.secretEnvironment }}
{{- include "views.fromSecret" (dict "variable" .name "secretName" .secretName "key" .key) }}
{{- end }}
{{- end -}}

{{- define "views.instanceVolumes" -}}
- name: dagster-home
  configMap:
    name: {{ include "views.name" . }}-instance
- name: tmp
  emptyDir:
    sizeLimit: {{ .Values.runs.tmp }}
{{- if .Values.computeLogs.claimName }}
- name: logs
  persistentVolumeClaim:
    claimName: {{ .Values.computeLogs.claimName }}
{{- end }}
{{- end -}}

{{- define "views.instanceMounts" -}}
- name: dagster-home
  mountPath: {{ include "views.dagsterHome" . }}
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- if .Values.computeLogs.claimName }}
- name: logs
  mountPath: {{ include "views.logs" . }}
{{- end }}
{{- end -}}

{{/* Of processes that load the project's code. */}}
{{- define "views.codeVolumes" -}}
{{ include "views.instanceVolumes" . }}
- name: views-home
  emptyDir:
    sizeLimit: {{ .Values.runs.scratch }}
{{- if .Values.sources }}
- name: sources
  configMap:
    name: {{ include "views.name" . }}-sources
{{- end }}
{{- if .Values.dataVolume.claimName }}
- name: data
  persistentVolumeClaim:
    claimName: {{ .Values.dataVolume.claimName }}
    readOnly: true
{{- end }}
{{- end -}}

{{- define "views.codeMounts" -}}
{{ include "views.instanceMounts" . }}
- name: views-home
  mountPath: {{ include "views.home" . }}
{{- if .Values.sources }}
- name: sources
  mountPath: /etc/views
  readOnly: true
{{- end }}
{{- if .Values.dataVolume.claimName }}
- name: data
  mountPath: {{ .Values.dataVolume.mountPath }}
  readOnly: true
{{- end }}
{{- end -}}

{{/* Top of a Deployment's pod: dict "root" "component" "token". */}}
{{- define "views.podTop" -}}
serviceAccountName: {{ include "views.name" .root }}-{{ .component }}
automountServiceAccountToken: {{ .token }}
securityContext:
  {{- include "views.podSecurity" .root | nindent 2 }}
{{- with include "views.pullSecrets" .root }}
imagePullSecrets:
  {{- . | trim | nindent 2 }}
{{- end }}
{{- with .root.Values.scheduling.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.scheduling.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A pod is replaced when its configuration changes. */}}
{{- define "views.checksums" -}}
views-dagster/configuration: {{ printf "%s%s%s" (include (print .Template.BasePath "/instance.yaml") .) (include (print .Template.BasePath "/environment.yaml") .) (include (print .Template.BasePath "/sources.yaml") .) | sha256sum }}
{{- end -}}
