#!/usr/bin/env bash
# One run on a slice of a GPU: sbatch deploy/slurm.sh prompt="a red car" seed=3
# It is asked to end 60 s before its time is up, saves a checkpoint, is queued again and goes on: see CLUSTER.md.
#SBATCH --job-name=text23d
#SBATCH --gres=gpu:1g.10gb:1
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=01:00:00
#SBATCH --signal=B:TERM@60
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -uo pipefail
export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK
folder=${TEXT23D_RUNS:-runs}/$SLURM_JOB_ID # a job that is queued again keeps its number

srun text23d run "$@" hydra.run.dir="$folder" resume=auto &
run=$!
trap 'told=yes; kill -TERM "$run"' TERM
told=no
wait "$run"
status=$?
if [ "$told" = yes ]; then # the signal has ended the first wait, not the run
    wait "$run"
    status=$?
    case $status in
    0 | 1 | 2) ;; # done, a defect, a mistake in the settings: another try would end in the same way
    *) scontrol requeue "$SLURM_JOB_ID" ;;
    esac
fi
exit "$status"
