"""An OpenAI API over one model in one process, and a page to look at. Not a second engine: one answer at a time.

    socket --app, guard--> body --openai--> Chat --door, fetch--> pictures --jobs.prepare--> Job --queue--> turn
                                                                                                          |
    JSON or server-sent events <--app, wire-- pieces <--run-- jobs.pieces <--------- thread <-----------+

What can be wrong with a request is found before it waits. What waits is encoded: its tokens bound its memory.
"""
