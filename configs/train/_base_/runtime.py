# How every experiment runs: seeds, progress, checkpoints. Task-independent.

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=10),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=1, save_best="auto"),
    sampler_seed=dict(type="DistSamplerSeedHook"),
)
randomness = dict(seed=0, deterministic=True)
env_cfg = dict(
    cudnn_benchmark=False,
    # One OpenCV thread a data worker: the workers are the parallelism.
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=1),
    dist_cfg=dict(backend="nccl"),
)
log_processor = dict(window_size=10)
visualizer = dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend")])
log_level = "INFO"
load_from = None
resume = False
