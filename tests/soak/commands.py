"""Right command lines, and options that a person may add to them."""

import shlex


def _split(text: str) -> list[list[str]]:
    return [shlex.split(line) for line in text.strip().splitlines()]


#: Commands that read a finished run; `{run}` and the other names in braces stand for places of the case.
READERS = _split("""
report --run_dir {run} --out {out}
explain --run_dir {run} --images {picture} --methods cam --out {out}
tradeoff --run_dir {run} --n_features 4 --features_per_class 2 --out {out}
test --run_dir {run}
predict --run_dir {run}
validate --run_dir {run} --phase finetune
predict --run_dir {run} --images {picture} --out {out}
evaluate --run_dir {run} --measures features --images 4 --out {out}
evaluate --run_dir {run} --conformal 0.8 --out {out}
probe --run_dir {run} --images 4 --out {out}
compare --run_dirs {run} {other} --out {out}
export --run_dir {run} --out {out}
push --run_dir {run} --repo_id me/birds --dry_run true --out {out}
""")

#: The same and those that train, as a person types them.
LINES = READERS + _split("""
pipeline --config {config} --run_dir {run}
pipeline --config {config} --run_dir {run} --start_at evaluate
pipeline --config {config} --run_dir {run} --start_at sparsify --trainer.accelerator cpu
pipeline --config {config} --run_dir {out} --phases.dense.max_epochs 1 --seed 1
pipeline --config {photo_config} --data.root {photos} --run_dir {out} --data.image_size 24
pipeline --config {photo_config} --data.root {archive} --run_dir {out} --data.batch_size 4
pipeline --config {config} --init_from {weights} --run_dir {out} --phases.dense.max_epochs 0
explain --run_dir {run} --images {photos} --methods gradient,gradcam --target 1 --out {out}
explain --run_dir {run} --images {picture} --stage dense --features 3 --out {out} --seed 3
test --run_dir {run} --phase dense --trainer.limit_test_batches 1
predict --run_dir {run} --data.eval_batch_size 4
fit --config {run}/dense/config.yaml --trainer.max_epochs 1 --trainer.default_root_dir {out}
""")

#: Options with a value that would be right.
OPTIONS = _split("""
--name mine
--seed 3
--start_at finetune
--init_from {weights}
--network.backbone cifar_resnet20
--network.pretrained false
--network.dropout 0.1
--network.options '{width: 4}'
--network.image_size 24
--data ToyBirds
--data.n_classes 3
--data.image_size 24
--data.batch_size 8
--data.num_workers 0
--data.normalisation imagenet
--data.augmentation flip
--data.seed 1
--data.cache_dir {out}
--data.root {photos}
--data.val_fraction 0.2
--trainer.devices 1
--trainer.accelerator cpu
--trainer.precision 32-true
--trainer.strategy auto
--trainer.gradient_clip_val 1.0
--trainer.accumulate_grad_batches 2
--trainer.limit_train_batches 1
--trainer.limit_val_batches 1
--trainer.log_every_n_steps 1
--trainer.deterministic true
--trainer.check_val_every_n_epoch 1
--trainer.num_sanity_val_steps 0
--trainer.profiler simple
--trainer.detect_anomaly true
--trainer.benchmark false
--trainer.inference_mode true
--trainer.val_check_interval 1.0
--trainer.max_time 00:00:05:00
--trainer.overfit_batches 1
--trainer.sync_batchnorm true
--trainer.reload_dataloaders_every_n_epochs 0
--trainer.barebones false
--wandb.mode disabled
--wandb.project birds
--wandb.entity me
--phases.dense.max_epochs 1
--phases.dense.monitor val/loss
--phases.dense.trainer '{precision: 32}'
--phases.dense.data '{batch_size: 4}'
--phases.dense.callbacks '[{class_path: Diversity}]'
--phases.dense.module.beta 0.1
--phases.dense.module.label_smoothing 0.1
--phases.dense.module.optimizer SGD
--phases.dense.module.optimizer.lr 0.1
--phases.dense.module.lr_scheduler StepLR
--phases.sparsify.module.n_features 4
--phases.sparsify.module.features_per_class 2
--phases.sparsify.module.alpha 0.9
--phases.sparsify.module.source dense
--phases.finetune.module.source sparsify
--phases.evaluate.module.stages '{dense: dense}'
--phase dense
--stage sparse
--images {photos}
--methods cam,ig
--target pred
--out {out}
--features 4
--n_features 4,5
--features_per_class 1,2
--measures features,filters
--stages dense,sparse
--split val
--attributes {attributes}
--masks {photos}
--conformal 0.9
--per_class true
--sets thr
--fill blur
--region 0,0,0.5,0.5
--parts beak
--to safetensors
--repo_id me/birds
--ckpt_path {run}/dense/best.ckpt
--config {config}
--print_config
--help
--model.beta 0.1
--model Dense
--trainer.logger false
--trainer.max_epochs 1
""")

#: Names that stand for places.
PLACES = (
    "{run}", "{other}", "{attributes}", "{out}", "{config}", "{photo_config}", "{photos}", "{archive}", "{picture}",
    "{weights}",
)  # fmt: skip
