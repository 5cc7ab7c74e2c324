//! The sentences that a violation displays.

use powerfail_model::{Atom, Content, Observed, RequestId, Rule, Violation};

#[test]
fn allowed_contents_are_listed_as_people_do() {
    let read = |allowed: &[Content]| {
        Violation::new(Rule::StaleRead)
            .atom(Atom(2))
            .allowed(allowed.to_vec())
            .observed(Observed::Content(Content::INITIAL))
            .to_string()
    };
    let (w7, w8) = (Content::of(RequestId(7)), Content::of(RequestId(8)));
    assert_eq!(read(&[]), "Sector 2 must hold something else. It holds initial.");
    assert_eq!(read(&[w7]), "Sector 2 must hold w7. It holds initial.");
    assert_eq!(read(&[Content::ZERO, w7]), "Sector 2 must hold 0 or w7. It holds initial.");
    assert_eq!(read(&[Content::ZERO, w7, w8]), "Sector 2 must hold 0, w7 or w8. It holds initial.");
}

#[test]
fn a_request_is_named_in_a_clause_that_continues_the_promise() {
    let about = |rule: Rule| Violation::new(rule).request(RequestId(60)).to_string();
    for (rule, sentence) in [
        (Rule::NeverUsed, "Every published request must be used; request 60 was not."),
        (Rule::UsedAfterEnd, "No request may be used after a reset; request 60 was."),
        (
            Rule::UsedLength,
            "The device must write at least the used length; for request 60 it wrote less.",
        ),
        (
            Rule::WroteReadable,
            "A device-readable buffer must not be written; it happened at request 60.",
        ),
    ] {
        assert_eq!(about(rule), sentence);
    }
}

#[test]
fn an_answer_is_named_in_the_words_of_the_specification() {
    assert_eq!(
        Violation::new(Rule::ReadOnlyServed).request(RequestId(60)).status(0).to_string(),
        "A read-only device must fail every write; request 60 was answered with OK."
    );
}
