"""An OpenAI API over one model in one process, and a page. Serving many users is vLLM's work.

    socket --middleware--> app --body, openai--> ChatRequest --image_input, fetch--> pictures --jobs--> GenerationJob
                                                                                                            |
    JSON or server-sent events <--responses-- TextDelta <--worker, generation-- the model's thread <--queue-+

Errors of a request are found before it waits. What waits is already encoded, so its tokens bound its memory.
"""
