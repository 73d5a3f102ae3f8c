"""Training of the embedded model: `run.run(recipe)`.

    language (lessons, symbols)  ->  hand  \\
                                            align  ->  spelling  ->  joint  ->  export  ->  OUT/model
    sight (dense letters)        ->  eyes  /

Both first stages are independent and run side by side where there are two cores. Every stage writes its state every
few hundred steps and draws its data from (seed, step), so a killed run goes on as if it had never stopped.

Fine-tuning of any model folder is `tune.tune(stage, sources)`, drawn there.
"""
