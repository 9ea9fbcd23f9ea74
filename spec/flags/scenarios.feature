Feature: Scenarios of our own

  Background:
    Given an evaluator

  Scenario Outline: A shared rule decides
    Given a Boolean-flag with key "beta-banner" and a fallback value "false"
    And a context containing a nested property with outer key "account" and inner key "email", with value "<email>"
    When the flag was evaluated with details
    Then the resolved details value should be "<value>"
    And the reason should be "<reason>"

    Examples:
      | email         | value | reason          |
      | a@example.org | true  | TARGETING_MATCH |
      | a@example.com | false | DEFAULT         |

  Scenario Outline: Types are checked without loss
    Given a <type>-flag with key "page-size" and a fallback value "<fallback>"
    When the flag was evaluated with details
    Then the resolved details value should be "<value>"
    And the error-code should be "<code>"

    Examples:
      | type    | fallback | value | code          |
      | Integer | 3        | 10    |               |
      | Float   | 3.5      | 10.0  |               |
      | String  | none     | none  | TYPE_MISMATCH |

  Scenario: Metadata comes along
    Given a Integer-flag with key "page-size" and a fallback value "3"
    When the flag was evaluated with details
    Then the resolved metadata should contain
      | key      | metadata_type | value  |
      | owner    | String        | search |
      | priority | Integer       | 2      |

  Scenario: A disabled flag leaves the caller's default
    Given a String-flag with key "retired" and a fallback value "mine"
    When the flag was evaluated with details
    Then the resolved details value should be "mine"
    And the reason should be "DISABLED"

  Scenario Outline: Failures leave the caller's default and a code
    Given a String-flag with key "<key>" and a fallback value "mine"
    When the flag was evaluated with details
    Then the resolved details value should be "mine"
    And the error-code should be "<code>"

    Examples:
      | key            | code           |
      | lost-reference | PARSE_ERROR    |
      | odd-name       | GENERAL        |
      | no-such-flag   | FLAG_NOT_FOUND |

  Scenario Outline: Units fall where their dialect says
    Given a String-flag with key "new-checkout" and a fallback value "mine"
    And a context containing a targeting key with value "<unit>"
    When the flag was evaluated with details
    Then the resolved details value should be "<value>"

    @fractional-v1
    Examples: v1
      | unit    | value |
      | user-42 | off   |

    @fractional-v2
    Examples: v2
      | unit    | value |
      | user-42 | off   |

    @fractional-v3
    Examples: v3
      | unit    | value |
      | user-42 | on    |

  @fractional
  Scenario: Without a unit the default is served
    Given a String-flag with key "new-checkout" and a fallback value "mine"
    When the flag was evaluated with details
    Then the resolved details value should be "off"
    And the reason should be "DEFAULT"
