{{/* The content of dagster.yaml. */}}
{{- define "views.instance" -}}
storage:
  custom:
    # Dagster's PostgreSQL storage, which says what is wrong when the database cannot be reached.
    module: resources.postgres
    class: PostgresStorage
    config:
      postgres_url:
        env: VIEWS_POSTGRES_URL
# DAGSTER_HOME cannot be written to.
local_artifact_storage:
  module: dagster._core.storage.root
  class: LocalArtifactStorage
  config:
    base_dir: /tmp/dagster
compute_logs:
  {{- if .Values.computeLogs.claimName }}
  module: dagster._core.storage.local_compute_log_manager
  class: LocalComputeLogManager
  config:
    base_dir: {{ include "views.logs" . }}
  {{- else }}
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
  {{- end }}
python_logs:
  python_log_level: INFO
telemetry:
  enabled: false
nux:
  enabled: false
run_coordinator:
  module: dagster
  class: QueuedRunCoordinator
concurrency:
  runs:
    max_concurrent_runs: {{ int .Values.runs.maxConcurrent }}
  pools:
    granularity: op
    default_limit: {{ int .Values.runs.maxGpuSteps }}
run_retries:
  enabled: true
  max_retries: {{ int .Values.runs.retries }}
  # A step that fails has had its own retries; only runs that lost their pod are started again.
  retry_on_asset_or_op_failure: false
run_monitoring:
  enabled: true
  start_timeout_seconds: {{ int .Values.runs.startTimeoutSeconds }}
  cancel_timeout_seconds: {{ int .Values.runs.cancelTimeoutSeconds }}
  max_runtime_seconds: {{ int .Values.runs.maxRuntimeSeconds }}
  # Dagster's way to hand the steps of a lost run to another pod fails where a step was retried or waits for a pool.
  max_resume_run_attempts: 0
  poll_interval_seconds: 60
  # A killed step keeps its place in a pool until its run has ended.
  free_slots_after_run_end_seconds: 60
run_launcher:
  # dagster-k8s' run launcher, which says why a run's pod was lost or could not be started.
  module: resources.run_pods
  class: RunLauncher
  config:
    load_incluster_config: true
    job_namespace: {{ .Release.Namespace }}
    service_account_name: {{ include "views.name" . }}-run
    instance_config_map: {{ include "views.name" . }}-instance
    dagster_home: {{ include "views.dagsterHome" . }}
    # No job_image: a run and all its steps keep the image of the code location that it was launched from.
    image_pull_policy: {{ .Values.image.pullPolicy }}
    {{- with include "views.pullSecrets" . }}
    image_pull_secrets:
      {{- . | trim | nindent 6 }}
    {{- end }}
    env_config_maps:
      - {{ include "views.name" . }}-environment
    run_k8s_config:
      container_config:
        env:
          {{- include "views.secretEnv" . | trim | nindent 10 }}
        resources:
          {{- toYaml .Values.runs.resources | nindent 10 }}
        securityContext:
          {{- include "views.containerSecurity" . | nindent 10 }}
        volumeMounts:
          {{- include "views.codeMounts" . | nindent 10 }}
      pod_template_spec_metadata:
        labels:
          {{- include "views.podLabels" . | nindent 10 }}
        annotations:
          {{- mergeOverwrite (dict "cluster-autoscaler.kubernetes.io/safe-to-evict" "false") .Values.runs.annotations | toYaml | nindent 10 }}
      pod_spec_config:
        securityContext:
          {{- include "views.podSecurity" . | nindent 10 }}
        terminationGracePeriodSeconds: {{ int .Values.runs.gracePeriodSeconds }}
        volumes:
          {{- include "views.codeVolumes" . | nindent 10 }}
        {{- with .Values.runs.nodeSelector }}
        nodeSelector:
          {{- toYaml . | nindent 10 }}
        {{- end }}
        {{- with .Values.runs.tolerations }}
        tolerations:
          {{- toYaml . | nindent 10 }}
        {{- end }}
      job_metadata:
        labels:
          {{- include "views.podLabels" . | nindent 10 }}
      job_spec_config:
        ttlSecondsAfterFinished: {{ int .Values.runs.ttlSecondsAfterFinished }}
{{- end -}}
