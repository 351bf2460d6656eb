"""Lazaret's measure: AgentDojo with an agent that obeys the attacker completely."""
