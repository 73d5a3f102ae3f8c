"""Metrics: pure functions from answers to scores, without files, tables or models.

    DocVQA, InfoVQA            anls.anls(prediction, answers) -> 0..1
    ChartQA                    relaxed.relaxed(prediction, answers, rule=) -> 0 or 1
    TextVQA                    vqa.vqa(prediction, answers, rule=) -> 0..1
    one of several options     choice.infer(prediction, choices, rule=) -> letter, "Z" or None
                               choice.decide(item, judge=) -> letter or "Z"; choice.hit(item, judge=) -> 0 or 1
      MMBench                  circular.circular(items, judge=) -> {index of the base question: 0 or 1}
      all of them              accuracy.accuracy(rows) -> {split: {name: share 0..1 or None}}; accuracy.macro(rows)
      MMMU                     mmmu.as_choice(item) -> ChoiceItem; mmmu.official(prediction, answer, choices) -> 0 or 1
    MME, HallusionBench        yes_no.yes_no(prediction, rule=) -> "Yes", "No" or "Unknown"
                               mme.mme(rows) -> {name: points}; hallusion.hallusion(rows, rule=) -> {split: shares}
    OCRBench                   ocrbench.hit(prediction, answers, category, rule=); ocrbench.ocrbench(rows) -> counts
    MathVista                  mathvista.extract(question, judge=) -> Extracted; mathvista.correct(question, found)
                               mathvista.mathvista(rows) -> {name: MathVistaRow}
    MM-Vet                     mmvet.grade(question, answer, prediction, judge=) -> Grade
                               mmvet.mmvet(rows, rule=) -> MmvetTable of capabilities and of integrations
    LLaVA in the wild          llava.llava(rows) -> {category: ratios}

`cells.answers(cell)` parses the answer cell of a TSV file into the list of accepted answers. `rule="vlmevalkit"` is the
default everywhere: VLMEvalKit at commit e8e78f05f3080fe28154f2130321f17951c3be94 including its bugs, because it made
the published tables. Where lmms-eval, the official scorer or the notebooks of the paper's authors score differently,
their rule has its own name, and the docstring says how they differ. A judge is any callable: prompt -> answer.
"""
