"""Full-size training: the paper's two stages, LoRA and QLoRA of any model folder.

    config.TrainConfig (a recipe file)  --plan.train_plan-->  what would learn, memory of one device
    run.run(RunConfig, sources, ...)    --trainer.Trainer-->  OUT/log.jsonl, OUT/step-N, OUT/adapter or OUT/model

The embedded model is trained from nothing by `ixc.nano`, which this package does not know.
"""
