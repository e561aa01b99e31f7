"""Two functions for tool-call tests, in the shape that each API expects."""


def function(name, description, argument, schema):
    return {
        "name": name,
        "description": description,
        "parameters": {"type": "object", "properties": {argument: schema}, "required": [argument]},
    }


WEATHER = function(
    "get_weather", "Gets the current weather in a city.", "location", {"type": "string", "description": "The city name"}
)
TIMER = function("set_timer", "Sets a timer.", "minutes", {"type": "number", "description": "How many minutes"})


def for_chat_completions(tool):
    return {"type": "function", "function": tool}


def for_responses(tool):
    return {"type": "function", **tool}


def for_messages(tool):
    return {"name": tool["name"], "description": tool["description"], "input_schema": tool["parameters"]}
